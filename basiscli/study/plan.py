"""Plans of a study (docs/study.md): tables of options in TOML, and the command lines that they expand to."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from basiscli.errors import BadInput
from basiscli.study import steps
from basiscli.study.steps import Step

SHIPPED = Path(__file__).with_name("plans")
# The tables that are commands, each with the claim that it answers.
CLAIMS = {"rotate": "C1", "correlate": "C2", "freeze": "C3", "connectivity": "C4"}
# Keys that are the study's own, by table; all others are options of the command that the table is named after.
OWN = {
    "train": {"seeds_per_step"},
    "rotate": {"widths", "seeds", "linear"},
    "correlate": {"widths", "seeds"},
    "freeze": {"widths", "seeds"},
    "connectivity": {"widths", "seeds"},
}
# Options that the study sets itself.
SET = {"out", "plot", "force", "resume", "dry_run", "style", "width", "hidden", "donor", "freeze_prefix",
       "start_from", "start_weights", "checkpoint_every", "format", "help"}  # fmt: skip
# Options that are given once for each item of a list; other lists are joined by commas.
REPEATED = ("layer", "freeze")
PREFIXES = [0, 1, 2]
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
        ) from error
    try:
        plan = Plan(path.stem, path.name if path == shipped else str(path), text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path}: {error}") from error
    _check(plan, parse)
    return plan


def open_study(plan: str, parse: Parser) -> tuple[str, str | None, list[Step]]:
    """Return the name, the text and the steps of a plan; the text is None for the folder of a study.

    Raises BadInput as `load` and `steps.load` do.
    """
    if plan not in names() and Path(plan).is_dir():
        name, found = steps.load(Path(plan))
        return name, None, found
    found = load(plan, parse)
    return found.name, found.text, expand(found, parse)


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


def expand(plan: Plan, parse: Parser) -> list[Step]:
    """Return the steps of a plan, in the order of its tables, each after those whose files it reads."""
    expansion = _Expansion(plan, parse)
    for table in plan.tables:
        if table in CLAIMS:
            getattr(expansion, table)()
    return list(expansion.steps.values())


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
    if not set(CLAIMS) & set(plan.tables):
        raise BadInput(f"{plan.path}: nothing to do; there are {', '.join(CLAIMS)}")
    if len(_seeds(plan, parse)) < 2:
        raise plan.fault("train", "seeds", "pairs need two networks or more, intervals three")


def _seeds(plan: Plan, parse: Parser) -> tuple[int, ...]:
    return parse("train", words({"seeds": plan.tables.get("train", {}).get("seeds", 1)}))["seeds"]


def _problem(table: str, key: str, value: object, parse: Parser) -> str | None:
    """Return what is wrong with a key and its value."""
    if table == RESOURCES:
        return _resources_problem(key, value)
    if key.replace("-", "_") in SET:
        return "is set by the study itself; leave it out" + (" and say widths" if key in ("width", "hidden") else "")
    if key == "widths":
        return _widths_problem(value, parse)
    if key == "linear" and table == "rotate":
        return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
    if key == "seeds_per_step" or (key == "seeds" and table != "train"):
        return None if type(value) is int and value > 0 else f"{value!r} is no whole number from 1"
    if not re.fullmatch(r"[a-z][a-z_-]*", key):
        return "is no option"
    try:
        parse(table, words({key: value}))
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


@dataclass
class _Expansion:
    """The steps that a plan has come to so far, by name."""

    plan: Plan
    parse: Parser
    steps: dict[str, Step] = field(default_factory=dict)

    def rotate(self) -> None:
        """C1: rotations of the networks of each width, and of their linear twins."""
        options = self._options("rotate")
        for width in self._widths("rotate"):
            kinds = {"": {}} | ({"-linear": {"activation": "linear"}} if self._own("rotate", "linear", True) else {})
            for suffix, changes in kinds.items():
                networks = self._networks(width, f"free{suffix}", changes)
                out = f"rotated/{_label(width)}{suffix}"
                self._analysis("rotate", width, networks, words(options | {"out": out}), suffix, out)

    def correlate(self) -> None:
        """C2: correlations of all pairs of networks of each width."""
        seeds = self._own("correlate", "seeds", len(_seeds(self.plan, self.parse)))
        intervals = {"intervals": True} if seeds > 2 else {}
        options = {"null": "rotated"} | intervals | self._options("correlate")
        for width in self._widths("correlate"):
            self._analysis("correlate", width, self._networks(width), words(options))

    def freeze(self) -> None:
        """C3: a donor, networks that share its first layers, and the sweep that reads them all."""
        options = {"prefixes": PREFIXES} | self._options("freeze")
        chosen = self.parse("freeze", words(options))
        seeds = {key: value for key, value in self.plan.tables["freeze"].items() if key == "seeds"}
        for width in self._widths("freeze"):
            after = self._first("freeze", self._networks(width))[1]
            for donor in chosen["donors"]:
                changes = {"seeds": f"{chosen['donor_seed']}-{chosen['donor_seed']}"}
                changes |= {"epochs": 0} if donor == "initial" else {}
                (given,) = self._networks(width, f"donor-{donor}", changes)
                for prefix in sorted(set(chosen["prefixes"]) - {0}):
                    changes = {"donor": given.files[0], "freeze_prefix": prefix} | seeds
                    after += [given, *self._networks(width, f"{donor}-{prefix}", changes, given)]
            trained = {key: value for key, value in self._options("train").items() if key != "activations"}
            line = words(trained | seeds | {"width": width, "out": f"networks/{_label(width)}"} | options)
            self._add("freeze", f"freeze-{_label(width)}", line, dict.fromkeys(after), about={"width": width})

    def connectivity(self) -> None:
        """C4: barriers between the networks of each width beside their correlations."""
        chosen = [self._first("connectivity", self._networks(width)) for width in self._widths("connectivity")]
        files, after = ([one for part in parts for one in part] for parts in zip(*chosen, strict=True))
        self._add("connectivity", "connectivity", [*files, *words(self._options("connectivity"))], after)

    def _networks(
        self, width: object, condition: str = "free", changes: Mapping | None = None, donor: Step | None = None
    ) -> list[Step]:
        """Return the steps that train the networks of a condition, `seeds_per_step` in each."""
        options = self._options("train") | {"width": width} | (changes or {})
        seeds = self.parse("train", words({"seeds": options.pop("seeds", 1)}))["seeds"]
        size = self._own("train", "seeds_per_step", len(seeds))
        out, name = f"networks/{_label(width)}/{condition}", f"train-{_label(width)}-{condition}"
        found = []
        for start in range(0, len(seeds), size):
            part = seeds[start : start + size]
            line = words(options | {"seeds": _seed_text(part), "out": out, "resume": True})
            files = tuple(f"{out}/seed{seed}.h5" for seed in part)
            suffix = f"-seed{part[0]}" if size < len(seeds) else ""
            found.append(self._add("train", name + suffix, line, [donor] if donor else [], files))
        return found

    def _analysis(
        self,
        command: str,
        width: object,
        networks: Sequence[Step],
        options: Sequence[str],
        suffix: str = "",
        folder: str | None = None,
    ) -> None:
        name, (files, after) = f"{command}-{_label(width)}{suffix}", self._first(command, networks)
        self._add(command, name, [*files, *options], after, about={"width": width}, folder=folder)

    def _first(self, command: str, networks: Sequence[Step]) -> tuple[list[str], list[Step]]:
        """Return the files of as many networks as a command is to read, and the steps that train them."""
        files = [file for step in networks for file in step.files][: self._own(command, "seeds", None)]
        return files, [step for step in networks if set(step.files) & set(files)]

    def _add(
        self,
        command: str,
        name: str,
        line: Sequence[str],
        after: Iterable[Step],
        files: Sequence[str] = (),
        **more: object,
    ) -> Step:
        """Return the step of this name, made if it is not there yet."""
        resources = dict(self.plan.tables.get(RESOURCES, {}).get(command, {}))
        step = Step(name, (command, *line), tuple(one.name for one in after), tuple(files), resources, **more)
        return self.steps.setdefault(name, step)

    def _options(self, table: str) -> dict:
        """Return a table without the study's own keys."""
        found = {key: value for key, value in self.plan.tables.get(table, {}).items() if key not in OWN[table]}
        if "dataset" in found and Path(str(found["dataset"])).suffix:
            found["dataset"] = str(Path(found["dataset"]).absolute())
        return found

    def _own(self, table: str, key: str, default):
        return self.plan.tables.get(table, {}).get(key, default)

    def _widths(self, table: str) -> list:
        return self.plan.tables[table]["widths"]


def _label(width: object) -> str:
    return f"w{width}".replace("/", "_")


def _seed_text(seeds: Sequence[int]) -> str:
    """Return seeds as the option takes them: 0 to 4 as 5, 3 as 3-3, others as a list."""
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) if len(seeds) > 1 else f"{seeds[0]}-{seeds[0]}"
