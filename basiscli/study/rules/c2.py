"""C2: networks of different seeds are far from one basis; neither width nor longer training brings them closer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from basiscli.analysis import statistics
from basiscli.analysis.assess import SHARE_OF
from basiscli.analysis.statistics import Estimate
from basiscli.study.verdict import (
    FEWEST_UNITS,
    MIXED,
    NOT_APPLICABLE,
    REFUTED,
    SHOWN,
    UNDECIDED,
    UNINFORMATIVE,
    Condition,
    Record,
    Verdict,
    all_hold,
    few_networks,
    mean,
    missing,
    name_of,
    settle,
    told,
    width_number,
)

CLAIM = "C2"
# Shares of the way from the rotated null to the aligned ceiling: far from one basis below the first, of one basis above
# the second; a growth with width, and with the second half of training, that is too little to call one.
FAR, NEAR, WIDER, LONGER = 0.5, 0.8, 0.1, 0.05
# A ceiling that is less above the null says nothing; one basis needs a ceiling above the second.
ROOM, SHARED = 0.1, 0.5
# A share of linear or untrained networks above which the null is no null: half of what is called far.
ZERO = FAR / 2
REFUTED_BY = "Every layer's share above 80 %, under a ceiling above 0.5."
MEASURE = "share of the way from the rotated null to the aligned ceiling, mean over layers, width {}"
# What the records of a step are of; without the field they are of the networks at the end of training.
CONDITIONS = TRAINED, HALF, LINEAR, UNTRAINED = ("trained", "half-trained", "linear", "untrained")

Table = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Layers:
    """The pairs of networks of a width and condition: matched, null and ceiling of each layer, by pair."""

    layers: Mapping[str, tuple[Table, Table, Table]]
    networks: int

    def share(self, layer: str) -> Estimate:
        """Return the share of a layer."""
        return statistics.share_over_networks(*self.layers[layer])

    def excess(self, layer: str) -> Estimate:
        """Return matched - null of a layer."""
        return statistics.rise(*self.layers[layer][:2])

    def scores(self, layer: str) -> tuple[float | None, float | None, float | None]:
        """Return matched, null and ceiling of a layer, means over pairs."""
        matched, null, ceiling = self.layers[layer]
        return mean(matched.values()), mean(null.values()), mean(ceiling.values())

    @cached_property
    def averaged(self) -> list[Table]:
        """Matched, null and ceiling, mean over layers."""
        return [statistics.averaged(tables) for tables in zip(*self.layers.values(), strict=True)]

    @property
    def mean_share(self) -> Estimate:
        """The share of the means over layers."""
        return statistics.share_over_networks(*self.averaged)


def judge(records: Sequence[Record]) -> Verdict:
    """Return the verdict on C2 from the records of `correlate`."""
    found = conditions(records)
    if lost := _missing(found):
        return missing(CLAIM, lost, refuted_by=REFUTED_BY)
    wide, half = (found[key] for key in ends(found)[1:])
    narrow = found[ends(found)[0]]
    verdict, because, p = _settled(found, narrow, wide, half)
    width = ends(found)[1][0]
    controls = {
        f"{name}, width {name_of(at)}": _zero(one) for (at, name), one in found.items() if name in CONDITIONS[2:]
    }
    return Verdict(
        CLAIM, verdict, because, measure=MEASURE.format(name_of(width)), effect=wide.mean_share, unit="%",
        thresholds={"far below": FAR, "one basis above": NEAR}, refuted_by=REFUTED_BY, p=p, controls=controls,
        beside=_beside(narrow, wide, half), trained={"networks": wide.networks, "width": width} | _trained(records),
    )  # fmt: skip


def conditions(records: Iterable[Record]) -> dict[tuple[float, str], Layers]:
    """Return the pairs of each width and condition, from the narrowest, layers under 16 units left out."""
    rows: dict[tuple[float, str], list[Record]] = {}
    for record in records:
        if record.get("pairs", 1) == 1 and record["units_a"] >= FEWEST_UNITS:
            key = width_number(record["width"]), record.get("condition", TRAINED)
            rows.setdefault(key, []).append(record)
    return {key: _layers(rows[key]) for key in sorted(rows)}


def ends(found: Mapping[tuple[float, str], Layers]) -> tuple[tuple, tuple, tuple]:
    """Return the keys of the narrowest, the widest, and the widest half-trained networks."""
    widths = [width for width, condition in found if condition == TRAINED]
    return (min(widths), TRAINED), (max(widths), TRAINED), (max(widths), HALF)


def _layers(records: Sequence[Record]) -> Layers:
    """Return tables by layer; networks are numbered as they come up, which is in the order of their files."""
    places = {path: k for k, path in enumerate(dict.fromkeys(path for r in records for path in (r["a"], r["b"])))}
    layers: dict[str, tuple[Table, Table, Table]] = {}
    for record in records:
        tables = layers.setdefault(record["layer"], ({}, {}, {}))
        for table, field in zip(tables, SHARE_OF, strict=True):
            if record.get(field) is not None:
                table[places[record["a"]], places[record["b"]]] = record[field]
    return Layers(layers, len(places))


def _missing(found: Mapping[tuple[float, str], Layers]) -> list[str]:
    widths = sorted({width for width, condition in found if condition == TRAINED})
    lost = [] if len(widths) > 1 else ["networks of two widths"]
    if widths:
        name = name_of(widths[-1])
        lost += [f"{one} networks of width {name}" for one in CONDITIONS[1:] if (widths[-1], one) not in found]
    unscored = [one for one in found.values() if not all(table for of in one.layers.values() for table in of)]
    return lost + (["the rotated null and its ceiling"] if unscored else [])


def _settled(found: Mapping, narrow: Layers, wide: Layers, half: Layers) -> tuple[str, str, float | None]:
    if few := few_networks(min(narrow.networks, wide.networks, half.networks)):
        return UNDECIDED, few, None
    zeros = {name: one for (_, name), one in found.items() if name in CONDITIONS[2:]}
    if failed := [name for name, zero in zeros.items() if _fails(zero)]:
        return UNINFORMATIVE, f"a control failed: {' and '.join(failed)} networks have a common basis, too", None
    applies = applicable(wide, list(zeros.values()))
    if not applies:
        return NOT_APPLICABLE, "in no layer do units pair up better than in networks without a basis", None
    groups = sorted_layers(wide, applies)
    if len([name for name, layers in groups.items() if layers and name != "undecided"]) > 1:
        told_groups = [f"{', '.join(layers)} {name}" for name, layers in groups.items() if layers]
        return MIXED, f"layers disagree: {'; '.join(told_groups)}", _largest_p(wide, groups)
    shown = [*far_conditions(wide), *_growth(narrow, wide, half)]
    refuted = near_conditions(wide) if _ceilings(wide) else []
    verdict, because, p = settle(shown, refuted)
    if verdict in (SHOWN, REFUTED):
        because = f"every layer's share is {'below 50' if verdict == SHOWN else 'above 80'} %"
    return verdict, because, p


def applicable(wide: Layers, zeros: Sequence[Layers]) -> list[str]:
    """Return the layers with a shared space, in which more of the way is gone than in networks without a basis (95 %).

    Units must also pair up better than the rotated null. All conditions hold at the level of all layers at once.
    """
    found = []
    for layer in wide.layers:
        _, null, ceiling = wide.scores(layer)
        beyond = [statistics.difference(wide.share(layer), zero.share(layer)) for zero in zeros if layer in zero.layers]
        tests = [Condition(layer, one, 0, count=len(wide.layers)) for one in (wide.excess(layer), *beyond)]
        if null is not None and ceiling is not None and ceiling - null >= ROOM and all_hold(tests):
            found.append(layer)
    return found


def _fails(zero: Layers) -> bool:
    """Whether networks without a basis are so far from the null that it is none."""
    return Condition("zero", zero.mean_share, ZERO).holds


def sorted_layers(wide: Layers, applies: Sequence[str]) -> dict[str, list[str]]:
    """Return the layers by what is certain of each; applies: those that the question makes sense of."""
    far = [one.words for one in far_conditions(wide) if one.holds and one.words in applies]
    near = [one.words for one in _of_layers(wide, FAR, above=True) if one.holds and one.words in applies]
    groups = {"far from one basis": far, "nearer to one basis than to none": near}
    groups["without a shared basis to speak of"] = [layer for layer in wide.layers if layer not in applies]
    known = [layer for layers in groups.values() for layer in layers]
    return groups | {"undecided": [layer for layer in wide.layers if layer not in known]}


def _largest_p(wide: Layers, groups: Mapping[str, Sequence[str]]) -> float:
    decided = [*groups["far from one basis"], *groups["nearer to one basis than to none"]]
    tests = [*far_conditions(wide), *_of_layers(wide, FAR, above=True)]
    return max((one.p for one in tests if one.words in decided and one.holds), default=1.0)


def far_conditions(wide: Layers) -> list[Condition]:
    """Return, for each layer, that its share is below 50 %."""
    return _of_layers(wide, FAR, above=False)


def near_conditions(wide: Layers) -> list[Condition]:
    """Return, for each layer, that its share is above 80 %."""
    return _of_layers(wide, NEAR, above=True, count=1)


def _of_layers(wide: Layers, bound: float, above: bool, count: int | None = None) -> list[Condition]:
    return [Condition(layer, wide.share(layer), bound, above, count or len(wide.layers), "%") for layer in wide.layers]


def _ceilings(wide: Layers) -> bool:
    return all((wide.scores(layer)[2] or 0) > SHARED for layer in wide.layers)


def _growth(narrow: Layers, wide: Layers, half: Layers) -> list[Condition]:
    return [
        Condition("growth of the share with width", wider(narrow, wide), WIDER, above=False, unit="points"),
        Condition("growth in the second half of training", longer(wide, half), LONGER, above=False, unit="points"),
    ]


def wider(narrow: Layers, wide: Layers) -> Estimate:
    """Return s(widest) - s(narrowest), of independent networks."""
    return statistics.difference(wide.mean_share, narrow.mean_share)


def longer(wide: Layers, half: Layers) -> Estimate:
    """Return s(end) - s(half of the epochs), of the same networks."""
    return statistics.rise_of_share(wide.averaged, half.averaged)


def _zero(one: Layers) -> str:
    verdict = "has a common basis" if _fails(one) else "the zero that the networks must exceed"
    return f"{told(one.mean_share, '%')}: {verdict}"


def _beside(narrow: Layers, wide: Layers, half: Layers) -> dict[str, str]:
    layers = {}
    for layer in wide.layers:
        matched, null, ceiling = (f"{score:.2f}" for score in wide.scores(layer))
        share = told(wide.share(layer), "%", count=len(wide.layers))
        layers[layer] = f"{share}: units {matched} between null {null} and ceiling {ceiling}"
    return layers | {
        "with width": told(wider(narrow, wide), "points"),
        "in the second half of training": told(longer(wide, half), "points"),
    }


def _trained(records: Sequence[Record]) -> dict[str, object]:
    names = ("epochs", "optimizer", "accuracy")
    first = next(r for r in records if r.get("condition", TRAINED) == TRAINED)
    return {name: first.get(name) for name in names}
