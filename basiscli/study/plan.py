"""Plans of a study (docs/study.md): tables of options in TOML, read and checked."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from basiscli.errors import BadInput, suggestion

SHIPPED = Path(__file__).with_name("plans")
# The tables that are commands, each with the claim that it answers.
CLAIMS = {"rotate": "C1", "correlate": "C2", "freeze": "C3", "connectivity": "C4"}
# The tables that are shown below the claims. They train networks of their own.
SECTIONS = ("evolve", "compare")
# Keys that are the study's own, by table; all others are options of the command that the table is named after.
OWN = {
    "train": {"seeds_per_step"},
    "rotate": {"widths", "seeds", "zeros"},
    "correlate": {"widths", "seeds", "zeros"},
    "freeze": {"widths", "seeds", "donor_seeds"},
    "connectivity": {"widths", "seeds"},
    "evolve": {"seeds"},
    "compare": {"seeds", "vary"},
}
# Options that the study sets itself.
SET = {"out", "plot", "force", "resume", "dry_run", "style", "width", "hidden", "donor", "freeze_prefix",
       "start_from", "start_weights", "checkpoint_every", "format", "help", "keep", "donor_seed", "pairs"}  # fmt: skip
# What sections may set all the same.
FREE = {"evolve": {"width", "hidden", "keep"}, "compare": {"width", "hidden"}}
# Options of `[train]` that the networks of sections do not have.
NOT_OF_SECTIONS = {"activations", "seeds"}
# Options that are given once for each item of a list; other lists are joined by commas.
REPEATED = ("layer", "freeze", "rename")
PREFIXES = [0, 1, 2]
# Donors of `freeze`, one a sweep: the interval is over them.
DONOR_SEEDS = [100, 101, 102]
RESOURCES = "resources"
# Parses the words of a command line, raises ValueError with what is wrong, and returns its parameters by name.
Parser = Callable[[str, Sequence[str]], Mapping]


@dataclass(frozen=True)
class Plan:
    """A plan as it was read: its text, and its tables by name."""

    name: str
    path: str
    text: str
    tables: Mapping[str, Mapping]

    def fault(self, table: str, key: str | None, why: str) -> BadInput:
        """Return the error about a key of a table, or about the table."""
        where = f"[{table}]" + (f" {key}" if key else "")
        return BadInput(f"{self.path}, line {line_of(self.text, table, key)}: {where}: {why}")


def load(name: str, parse: Parser) -> Plan:
    """Return a shipped plan by its name, or one in a file.

    Raises BadInput, with the line, for bad TOML, unknown tables and keys, and values that the commands refuse.
    """
    shipped = SHIPPED / f"{name}.toml"
    path = shipped if shipped.exists() else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{name}: no plan; name a TOML file, the folder of a study, or one of {', '.join(names())}"
            f"{suggestion(name, names())}"
        ) from error
    try:
        plan = Plan(path.stem, path.name if path == shipped else str(path), text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: {error}") from error
    _check(plan, parse)
    return plan


def names() -> list[str]:
    """Return the names of the shipped plans."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def line_of(text: str, table: str, key: str | None = None) -> int:
    """Return the line, from 1, of a table's header or of a key in it; the header's if the key is not found."""
    header, inside = 1, False
    sought = re.compile(rf"""\s*["']?{re.escape(key or table)}["']?\s*[.=]""")
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            inside = match[1] == table
            header = number if inside else header
        elif (inside or not key) and sought.match(line):
            return number
    return header


def words(options: Mapping) -> list[str]:
    """Return options as a command line has them: `a_b` with a dash, a list with commas, false with a "no" before it."""
    found = []
    for key, value in options.items():
        option = key.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option if value else f'no-{option}'}")
        elif isinstance(value, list) and key in REPEATED:
            found += [word for item in value for word in (f"--{option}", str(item))]
        else:
            found += [f"--{option}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return found


def seed_text(seeds: Sequence[int]) -> str:
    """Return seeds as the option takes them: 0 to 4 as 5, 3 as 3-3, others as a list."""
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) if len(seeds) > 1 else f"{seeds[0]}-{seeds[0]}"


def _check(plan: Plan, parse: Parser) -> None:
    for table, options in plan.tables.items():
        if table not in OWN and table != RESOURCES:
            raise plan.fault(table, None, f"no such table; there are {', '.join([*OWN, RESOURCES])}")
        if not isinstance(options, dict):
            raise plan.fault(table, None, "is a table of options, not a value")
        for key, value in options.items():
            if problem := _problem(table, key, value, parse):
                raise plan.fault(table, key, problem)
    for table in CLAIMS:
        if table in plan.tables and not plan.tables[table].get("widths"):
            raise plan.fault(table, None, "widths = [...] is missing")
    if not {*CLAIMS, *SECTIONS} & set(plan.tables):
        raise BadInput(f"{plan.path}: nothing to do; there are {', '.join([*CLAIMS, *SECTIONS])}")
    if "compare" in plan.tables and "vary" not in plan.tables["compare"]:
        raise plan.fault("compare", None, "vary = { optimizer = [...] } is missing")
    if len(seeds_of(plan, parse)) < 2:
        raise plan.fault("train", "seeds", "pairs need two networks or more, intervals three")
    if "freeze" in plan.tables and (both := set(seeds_of(plan, parse)) & set(donor_seeds(plan))):
        raise plan.fault("freeze", "donor_seeds", f"{min(both)} is one of the networks' seeds, too")
    _check_epochs(plan)


def _check_epochs(plan: Plan) -> None:
    """Raise BadInput unless the plan says how many epochs there are where the rules compare with half or four times."""
    epochs = plan.tables.get("train", {}).get("epochs")
    if has_zeros(plan, "correlate") and (type(epochs) is not int or epochs < 2):
        raise plan.fault("train", "epochs", "say how many, 2 or more: C2 looks at half of them, too")
    if has_zeros(plan, "rotate") and type(plan.tables["rotate"].get("epochs", epochs)) is not int:
        raise plan.fault("train", "epochs", "say how many: C1 retrains for four times as many, too")


def has_zeros(plan: Plan, table: str) -> bool:
    """Whether a table is there and looks at what its rule needs beside the networks: linear twins and so on."""
    return table in plan.tables and plan.tables[table].get("zeros", True)


def donor_seeds(plan: Plan) -> list[int]:
    """Return the seeds of the donors of `freeze`."""
    return plan.tables["freeze"].get("donor_seeds", DONOR_SEEDS)


def seeds_of(plan: Plan, parse: Parser) -> tuple[int, ...]:
    return parse("train", words({"seeds": plan.tables.get("train", {}).get("seeds", 1)}))["seeds"]


def _problem(table: str, key: str, value: object, parse: Parser) -> str | None:
    """Return what is wrong with a key and its value."""
    if table == RESOURCES:
        return _resources_problem(key, value)
    if key.replace("-", "_") in SET - FREE.get(table, set()):
        return "is set by the study itself; leave it out" + (" and say widths" if key in ("width", "hidden") else "")
    if key == "widths":
        return _widths_problem(value, parse)
    if key == "vary" and table == "compare":
        lists = isinstance(value, dict) and all(isinstance(levels, list) and levels for levels in value.values())
        return None if lists and value else f"{value!r} is no table of lists, such as {{ optimizer = [...] }}"
    if key == "zeros":
        return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
    if key == "donor_seeds":
        seeds = value if isinstance(value, list) else []
        whole = seeds and all(type(seed) is int and seed >= 0 for seed in seeds)
        return None if whole and len(set(seeds)) == len(seeds) else f"{value!r} is no list of different seeds"
    if key == "seeds_per_step" or (key == "seeds" and table != "train"):
        return None if type(value) is int and value > 0 else f"{value!r} is no whole number from 1"
    if not re.fullmatch(r"[a-z][a-z_-]*", key):
        return "is no option"
    try:
        parse("evolve" if table == "compare" else table, words({key: value}))  # whose cells are evolutions
    except ValueError as error:
        return str(error)
    return None


def _widths_problem(value: object, parse: Parser) -> str | None:
    if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
        return f"{value!r} is no list of different widths"
    try:
        for width in value:
            parse("train", words({"width": width}))
    except ValueError as error:
        return str(error)
    return None


def _resources_problem(command: str, value: object) -> str | None:
    if command not in OWN:
        return f"no such command; there are {', '.join(OWN)}"
    if not isinstance(value, dict) or not all(type(v) in (int, float) and v > 0 for v in value.values()):
        return f"{value!r} is no table of numbers above 0, such as {{ GPU = 1 }}"
    return None
