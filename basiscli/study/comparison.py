"""What a basis depends on (docs/evolve.md): a grid of training options, a step for each cell, and contrasts of cells.

A factor is an option of training with its levels; a cell has one level of each factor. The networks of a seed in two
cells are one draw, so contrasts are paired by seed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path

from basiscli.errors import BadInput
from basiscli.experiments.measured import ALL, FIELDS, RISE_FIELDS, RISES, Measured, by_layer, told
from basiscli.experiments.training import TrainingJob
from basiscli.study.plan import Parser, words
from basiscli.study.steps import Step

Factors = Mapping[str, Sequence[str]]
Cell = Mapping[str, str]

# Options of training that are no factor: which networks, and how they are written.
NO_FACTORS = {"seeds", "vary", "out", "resume", "force", "keep", "checkpoint_every", "activations", "seed_batch",
              "command", "start_from", "start_weights", "freeze", "donor", "freeze_prefix", "start_only"}  # fmt: skip
# How a cell's step looks at its networks, before and after the options of training.
BEFORE, AFTER = {"barrier": False}, {"keep": "", "pairs": True}
FOLDER = "compared"


def require_factors(factors: Factors, parse: Parser) -> None:
    """Raise ValueError for what is no option of training, a level that it does not take, and a single cell."""
    known = {field.name for field in fields(TrainingJob)} - NO_FACTORS
    for name, levels in factors.items():
        if name.replace("-", "_") not in known:
            raise ValueError(f"{name}: no option of training that can vary; such as optimizer, activation, norm, lr")
        if len(set(levels)) < len(levels):
            raise ValueError(f"{name}: names a level twice")
        for level in levels:
            parse("evolve", words({name: level}))
    if len(cells(factors)) < 2:
        raise ValueError("a comparison needs a factor with two levels or more, such as optimizer=sgd,adamw")


def cells(factors: Factors) -> list[dict[str, str]]:
    """Return the cells of a grid; the levels of the last factor follow each other."""
    return [dict(zip(factors, levels, strict=True)) for levels in product(*factors.values())]


def label(cell: Cell) -> str:
    """Return the name of a cell, which names its folder, too: sgd-relu."""
    return "-".join(re.sub(r"[^\w.]", "_", level) for level in cell.values())


def steps_of(factors: Factors, options: Sequence[str], resources: Mapping[str, float]) -> list[Step]:
    """Return a step for each cell: all its networks are trained and measured at once.

    options: words of `evolve` that all cells share. Raises BadInput for two cells of one name.
    """
    found: dict[str, Step] = {}
    for cell in cells(factors):
        name = f"compare-{label(cell)}"
        if name in found:
            raise BadInput(f"`vary`: two cells are called {label(cell)}; leave out one of their levels")
        folder = f"{FOLDER}/{label(cell)}"
        line = ("evolve", *words(BEFORE), *options, *words({**cell, **AFTER, "out": folder}))
        found[name] = Step(name, line, resources=dict(resources), about={"cell": cell}, folder=folder)
    return list(found.values())


def compare(folder: Path, steps: Sequence[Step]) -> Iterator[dict]:
    """Yield a record for each cell and layer, then one for each contrast and layer, from the records of steps.

    Steps without records are left out, as are other steps than those of `steps_of`. A contrast has a level of one
    factor over the first level of it: in each cell of the other factors, and in the mean over them. A cell in which
    fewer than two networks did not diverge has a record without a layer. Raises BadInput for a damaged file.
    """
    measured: dict[tuple[str, ...], dict[str, Measured]] = {}
    factors: dict[str, list[str]] = {}
    for step in steps:
        path = folder / step.records
        if "cell" not in step.about or not path.exists():
            continue
        cell: dict[str, str] = dict(step.about["cell"])  # type: ignore[call-overload]
        for name, level in cell.items():
            levels = factors.setdefault(name, [])
            levels += [] if level in levels else [level]
        records = _read(path)
        whole = {name: records[0][name] for name in ("networks", "diverged", "epochs", "tap", "correlated_on")}
        whole |= {"name": " ".join(cell.values())}
        if records[0]["layer"] is None:
            yield cell | _EMPTY | whole
            continue
        measured[tuple(cell.values())] = by_layer(records)
        for layer, values in measured[tuple(cell.values())].items():
            yield cell | _EMPTY | {"layer": layer} | whole | values.fields()
    yield from _contrasts(factors, measured)


# The fields of a record, after the factors.
_HEAD = ("name", "factor", "level", "over", "layer", "networks", "diverged", "epochs", "tap", "correlated_on")
_EMPTY: dict = dict.fromkeys((*_HEAD, *FIELDS, *RISE_FIELDS))


def _contrasts(factors: Factors, measured: Mapping[tuple[str, ...], Mapping[str, Measured]]) -> Iterator[dict]:
    """Yield the contrasts of each level with the first of its factor, the mean over the other factors first."""
    for place, (factor, levels) in enumerate(factors.items()):
        others = list(product(*(of for name, of in factors.items() if name != factor)))
        for level in levels[1:]:
            pairs = {}
            for other in others:
                mine, first = ((*other[:place], one, *other[place:]) for one in (level, levels[0]))
                if mine in measured and first in measured:
                    pairs[mine] = measured[mine], measured[first]
            about = _EMPTY | {"name": f"{level} - {levels[0]}", "factor": factor, "level": level, "over": levels[0]}
            if len(others) > 1 and pairs:
                whole = dict.fromkeys(factors) | {factor: level}
                yield from (whole | about | record for record in _rises(list(pairs.values())))
            for mine, pair in pairs.items():
                cell = dict(zip(factors, mine, strict=True))
                where = " ".join(of for name, of in cell.items() if name != factor)
                about["name"] = f"{level} - {levels[0]}" + (f" ({where})" if where else "")
                yield from (cell | about | record for record in _rises([pair]))


def _rises(pairs: Sequence[tuple[Mapping[str, Measured], Mapping[str, Measured]]]) -> Iterator[dict]:
    """Yield for each layer that all cells have by how much the first of each pair of cells is above the second."""
    for layer in pairs[0][0]:
        if all(layer in cell for pair in pairs for cell in pair):
            mine, first = (Measured.mean([pair[k][layer] for pair in pairs]) for k in (0, 1))
            seeds = mine.networks["test_accuracy"].keys() & first.networks["test_accuracy"].keys()
            yield {"layer": layer, "networks": len(seeds)} | mine.rises(first)


def sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield what the records of `compare` say in words, of means over layers: what is left out, what levels change.

    A line for each level over the first of its factor, in the mean over the other factors.
    """
    for record in records:
        if not record["factor"] and record["diverged"] and record["layer"] in (None, ALL):
            left_out = "the cell is left out" if record["layer"] is None else "they are left out"
            yield f"{record['name']}: {record['diverged']} networks diverged in training; {left_out}"
    first: dict[tuple[str, str], Mapping] = {}
    for record in records:
        if record["layer"] == ALL and record["factor"]:
            first.setdefault((record["factor"], record["level"]), record)
    for record in first.values():
        changes = ", ".join(f"{name.replace('_', ' ')} {_judged(record, name)}" for name in RISES)
        yield f"{record['factor']} {record['level']} instead of {record['over']}: {changes}"


def _judged(record: Mapping, name: str) -> str:
    """Return a rise in words: with its interval, and whether its sign is certain."""
    low, high = record[f"{name}_rise_low"], record[f"{name}_rise_high"]
    text = told(record, f"{name}_rise", sign=True)
    return text if low is None or low > 0 or high < 0 else f"{text} (not certain)"


def _read(path: Path) -> list[dict]:
    try:
        return [dict(json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: is damaged; remove it, and the same command makes it anew") from error
