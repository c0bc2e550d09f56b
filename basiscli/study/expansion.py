"""The steps of a study: command lines that a plan expands to, each after those whose files it reads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from basiscli.experiments.freezing import FREE, INITIAL, Condition
from basiscli.experiments.freezing import TRAINED as TRAINED_DONOR
from basiscli.study import comparison, steps
from basiscli.study.plan import (
    CLAIMS,
    OWN,
    PREFIXES,
    RESOURCES,
    SECTIONS,
    Parser,
    Plan,
    donor_seeds,
    has_zeros,
    load,
    names,
    seed_text,
    seeds_of,
    words,
)
from basiscli.study.rules.c1 import LONGER
from basiscli.study.rules.c2 import HALF, LINEAR, TRAINED, UNTRAINED
from basiscli.study.steps import Step
from basiscli.study.verdict import width_number

# The kinds of rotation that C1 compares, and the models whose pools take a maximum.
COMPARED, POOLED = "orthogonal,permutation", ("convnet", "vgg")
# The folder of the networks of `[evolve]`.
EVOLVED = "evolved"


def open_study(plan: str, parse: Parser) -> tuple[str, str | None, list[Step]]:
    """Return the name, the text and the steps of a plan; the text is None for the folder of a study.

    Raises BadInput as `load` and `steps.load` do.
    """
    if plan not in names() and Path(plan).is_dir():
        name, found = steps.load(Path(plan))
        return name, None, found
    read = load(plan, parse)
    return read.name, read.text, expand(read, parse)


def expand(plan: Plan, parse: Parser) -> list[Step]:
    """Return the steps of a plan, in the order of its tables, each after those whose files it reads."""
    expansion = _Expansion(plan, parse)
    for table in plan.tables:
        if table in (*CLAIMS, *SECTIONS):
            getattr(expansion, table)()
    return list(expansion.steps.values())


@dataclass
class _Expansion:
    """The steps that a plan has come to so far, by name."""

    plan: Plan
    parse: Parser
    steps: dict[str, Step] = field(default_factory=dict)

    def rotate(self) -> None:
        """C1: rotations retrained for E and 4E epochs, of the networks of each width and of their linear twins.

        Untrained networks are rotated, too; all but the first rotations are of what the rule compares.
        """
        options = self._options("rotate")
        short = options.get("epochs", self._options("train").get("epochs")) or 0
        zeros = has_zeros(self.plan, "rotate")
        pair = options | {"kind": COMPARED}
        for width in self._widths("rotate"):
            runs: list[tuple[str, str, dict, dict]] = [("", FREE, {}, options)]
            if zeros:
                linear, long = self._linear(), pair | {"epochs": LONGER * short}
                runs += [
                    ("-long", FREE, {}, long),
                    ("-linear", "free-linear", linear, pair),
                    ("-linear-long", "free-linear", linear, long),
                    ("-untrained", "free-untrained", {"epochs": 0}, pair | {"epochs": short}),
                ]
            for suffix, condition, changes, chosen in runs:
                out = f"rotated/{_label(width)}{suffix}"
                networks = self._networks(width, condition, changes)
                self._analysis("rotate", width, networks, words(chosen | {"out": out}), suffix, folder=out)

    def correlate(self) -> None:
        """C2: correlations of all pairs of networks of each width; of the widest also half-way, linear, untrained."""
        seeds = self._own("correlate", "seeds", len(seeds_of(self.plan, self.parse)))
        intervals = {"intervals": True} if seeds > 2 else {}
        line = words({"null": "rotated"} | intervals | self._options("correlate"))
        for width in self._widths("correlate"):
            self._analysis("correlate", width, self._networks(width), line, about=self._about(TRAINED))
        if has_zeros(self.plan, "correlate"):
            width = max(self._widths("correlate"), key=width_number)
            networks = self._networks(width)
            self._analysis("correlate", width, networks, line, "-half", about=self._about(HALF), kept=True)
            for condition, changes in ((LINEAR, self._linear()), (UNTRAINED, {"epochs": 0})):
                networks = self._networks(width, f"free-{condition}", changes)
                self._analysis("correlate", width, networks, line, f"-{condition}", about=self._about(condition))

    def _about(self, condition: str) -> dict:
        """Return what the records of a correlation are to say of the networks."""
        train = self._options("train")
        epochs = {HALF: train.get("epochs", 0) // 2, UNTRAINED: 0}.get(condition, train.get("epochs"))
        return {"condition": condition, "epochs": epochs, "optimizer": train.get("optimizer", "sgd")}

    def _linear(self) -> dict:
        """Return what makes linear twins: no nonlinearity, and no maximum in the pools."""
        pools = {"pooling": "average"} if self._options("train").get("model") in POOLED else {}
        return {"activation": "linear"} | pools

    def freeze(self) -> None:
        """C3: donors, networks that share their first layers, and for each donor the sweep that reads them all.

        Donors without training are of the first seed alone.
        """
        options = {"prefixes": PREFIXES} | self._options("freeze")
        for width in self._widths("freeze"):
            for k, seed in enumerate(donor_seeds(self.plan)):
                only = {"donors": TRAINED_DONOR} if k else {}
                self._sweep(width, options | only | {"donor_seed": seed}, f"-donor{seed}")

    def _sweep(self, width: object, options: dict, suffix: str) -> None:
        chosen = self.parse("freeze", words(options))
        seeds = {key: value for key, value in self.plan.tables["freeze"].items() if key == "seeds"}
        after = self._first("freeze", self._networks(width))[1]
        for donor in chosen["donors"]:
            changes: dict[str, object] = {"seeds": f"{chosen['donor_seed']}-{chosen['donor_seed']}"}
            changes |= {"epochs": 0} if donor == INITIAL else {}
            (given,) = self._networks(width, f"donor-{donor}", changes, label=f"-{chosen['donor_seed']}")
            for prefix in sorted(set(chosen["prefixes"]) - {0}):
                condition = Condition(donor, prefix, chosen["donor_seed"]).name
                changes = {"donor": given.files[0], "freeze_prefix": prefix} | seeds
                after += [given, *self._networks(width, condition, changes, given)]
        trained = {key: value for key, value in self._options("train").items() if key != "activations"}
        line = words(trained | seeds | {"width": width, "out": f"networks/{_label(width)}"} | options)
        about = {"width": width}
        self._add("freeze", f"freeze-{_label(width)}{suffix}", line, dict.fromkeys(after), about=about)

    def connectivity(self) -> None:
        """C4: barriers between the networks of each width beside their correlations."""
        chosen = [self._first("connectivity", self._networks(width)) for width in self._widths("connectivity")]
        files, after = ([one for part in parts for one in part] for parts in zip(*chosen, strict=True))
        self._add("connectivity", "connectivity", [*files, *words(self._options("connectivity"))], after)

    def evolve(self) -> None:
        """Share, privilege and barrier over training: one step, which trains networks of its own."""
        line = words(self._trained_alike("evolve") | {"out": EVOLVED})
        self._require("evolve", self._add("evolve", "evolve", line, [], folder=EVOLVED))

    def compare(self) -> None:
        """What the basis depends on: a step for each cell of a grid, which trains networks of its own.

        Raises BadInput for factors that make no grid.
        """
        factors = {name: list(map(_level, levels)) for name, levels in self._own("compare", "vary", {}).items()}
        resources = self.plan.tables.get(RESOURCES, {}).get("compare", {})
        try:
            comparison.require_factors(factors, self.parse)
            cells = comparison.steps_of(factors, words(self._trained_alike("compare", factors)), resources)
        except ValueError as error:
            raise self.plan.fault("compare", "vary", str(error)) from error
        for step in cells:
            self._require("compare", self.steps.setdefault(step.name, step))

    def _trained_alike(self, table: str, factors: Iterable[str] = ()) -> dict:
        """Return the options of networks that a section trains: those of `[train]`, and above them its own."""
        seeds = seeds_of(self.plan, self.parse)[: self._own(table, "seeds", None)]
        left_out = {"activations", *factors, *(name.replace("-", "_") for name in factors)}
        train = {key: value for key, value in self._options("train").items() if key not in left_out}
        return train | {"seeds": seed_text(seeds)} | self._options(table)

    def _require(self, table: str, step: Step) -> None:
        """Raise BadInput for a step of a section that its command would refuse, such as a frozen layer in `[train]`."""
        try:
            self.parse(step.words[0], step.words[1:])
        except ValueError as error:
            raise self.plan.fault(table, None, str(error)) from error

    def _networks(
        self,
        width: object,
        condition: str = FREE,
        changes: Mapping | None = None,
        donor: Step | None = None,
        label: str = "",
    ) -> list[Step]:
        """Return the steps that train the networks of a condition, `seeds_per_step` in each.

        label: is added to their names. Networks that C2 looks at half-way are kept there, in files of their own.
        """
        kept = self._kept(width) if condition == FREE else None
        keep = {} if kept is None else {"keep": kept}
        options = self._options("train") | keep | {"width": width} | dict(changes or {})
        seeds = self.parse("train", words({"seeds": options.pop("seeds", 1)}))["seeds"]
        size = self._own("train", "seeds_per_step", len(seeds))
        out, name = f"networks/{_label(width)}/{condition}", f"train-{_label(width)}-{condition}{label}"
        found = []
        for start in range(0, len(seeds), size):
            part = seeds[start : start + size]
            line = words(options | {"seeds": seed_text(part), "out": out, "resume": True})
            files = tuple(f"{out}/seed{seed}.h5" for seed in part)
            files += () if kept is None else tuple(f"{out}/seed{seed}-epoch{kept}.h5" for seed in part)
            suffix = f"-seed{part[0]}" if size < len(seeds) else ""
            found.append(self._add("train", name + suffix, line, [donor] if donor else [], files))
        return found

    def _kept(self, width: object) -> int | None:
        """Return the epoch half-way for the width that C2 looks at there, None for others."""
        if not has_zeros(self.plan, "correlate"):
            return None
        widest = max(map(width_number, self._widths("correlate")))
        return self._options("train")["epochs"] // 2 if width_number(width) == widest else None

    def _analysis(
        self,
        command: str,
        width: object,
        networks: Sequence[Step],
        options: Sequence[str],
        suffix: str = "",
        folder: str | None = None,
        about: Mapping = MappingProxyType({}),
        kept: bool = False,
    ) -> None:
        name, (files, after) = f"{command}-{_label(width)}{suffix}", self._first(command, networks, kept)
        about = {"width": width, **about}
        self._add(command, name, [*files, *options], after, about=about, folder=folder)

    def _first(self, command: str, networks: Sequence[Step], kept: bool = False) -> tuple[list[str], list[Step]]:
        """Return the files of as many networks as a command is to read, and the steps that train them.

        kept: those that were kept on the way.
        """
        files = [file for step in networks for file in step.files if ("-epoch" in Path(file).name) == kept]
        files = files[: self._own(command, "seeds", None)]
        return files, [step for step in networks if set(step.files) & set(files)]

    def _add(
        self,
        command: str,
        name: str,
        line: Sequence[str],
        after: Iterable[Step],
        files: Sequence[str] = (),
        **more: Any,
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


def _level(level: object) -> str:
    """Return a level of a factor as people write it, since it names a folder."""
    return f"{level:g}" if isinstance(level, float) else str(level)


def _label(width: object) -> str:
    return f"w{width}".replace("/", "_")
