"""The scores of a pair beside their nulls and ceilings, as the fields of a record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basiscli.analysis import nulls
from basiscli.analysis.moments import merge
from basiscli.analysis.nulls import Calibration, Null, calibrate
from basiscli.analysis.pairs import LayerMoments, LayerPair, compare_pairs
from basiscli.analysis.similarity import SIMILARITIES, aligned_held_out
from basiscli.analysis.statistics import over_networks

NULLS = ("rotated", "shuffled")


@dataclass(frozen=True)
class Request:
    """What to work out for every pair beyond its scores; seed feeds the draws."""

    nulls: Sequence[str] = ()
    draws: int = 100
    similarities: Sequence[str] = ()
    drop_dead: bool = False
    seed: int = 0

    @property
    def full(self) -> bool:
        """Whether the full second moments of each network are needed."""
        return bool(self.nulls or self.similarities)


@dataclass(frozen=True)
class Assessment:
    """A pair, the scores of its record that were asked for by their names there, and the draws behind them."""

    pair: LayerPair
    nulls: Mapping[str, Null]
    fields: Mapping[str, float | None]


def assess(found: LayerMoments, request: Request, spread: Callable = map) -> Iterator[Assessment]:
    """Yield every pair of networks of a layer. spread: what maps over draws, see `nulls.workers`."""
    privileges = _privileges(found, request, spread) if "rotated" in request.nulls else {}
    for pair in compare_pairs(found, request.drop_dead):
        drawn = {name: _draw(name, pair, found.rows_per_image, request, spread) for name in request.nulls}
        yield Assessment(pair, drawn, dict(_fields(pair, drawn, privileges, request)))


def summarise(assessed: Sequence[Assessment], seed: int) -> dict[str, float | None]:
    """Return the mean of each field over pairs, and <field>_low and <field>_high where an interval makes sense."""
    summary: dict[str, float | None] = {}
    for name in assessed[0].fields:
        values = {(one.pair.a, one.pair.b): one.fields[name] for one in assessed}
        mean, low, high = over_networks(values, seed, bound=bound(name))
        summary[name] = mean
        if has_interval(name):
            summary |= {f"{name}_low": low, f"{name}_high": high}
    return summary


def has_interval(field: str) -> bool:
    """Whether a field is a score of the networks, not of how well a null was drawn."""
    return not field.endswith(("_deviation", "_z", "_z_a", "_z_b", "_beaten"))


def bound(field: str) -> float:
    """Return what no value of a field exceeds in size: 1 for a score, 2 for the difference of two."""
    return 2.0 if field.endswith("excess") or field.startswith("privilege") else 1.0


def explain(similarity: str) -> str:
    """Return a line on how to read a similarity."""
    about = SIMILARITIES[similarity]
    return (
        f"{similarity}: {about.range}, higher is more alike, the same after {about.invariant_to} of either network "
        f"({about.source})"
    )


def without_arrays(one: Assessment, keep_r: bool = False) -> Assessment:
    """Return an assessment without its moments and, unless kept, its correlations, so that many fit into memory."""
    scores = one.pair.scores if keep_r else replace(one.pair.scores, r=np.empty((0, 0)))
    return replace(one, pair=replace(one.pair, scores=scores, halves=()))


def _draw(name: str, pair: LayerPair, rows_per_image: int, request: Request, spread: Callable) -> Null:
    if name == "rotated":
        return nulls.rotated(pair.halves, request.draws, request.seed, request.drop_dead, spread)
    return nulls.shuffled(pair.halves, rows_per_image, request.draws, request.seed, request.drop_dead, spread)


def _privileges(found: LayerMoments, request: Request, spread: Callable) -> dict[int, Calibration]:
    """Return how privileged each network's basis is, by the source's number."""
    whole = merge(found.halves)
    return {
        network: nulls.privilege(own, request.draws, request.seed, spread)
        for network, own in zip(found.networks, whole.own, strict=True)
    }


def _fields(
    pair: LayerPair, drawn: Mapping[str, Null], privileges: Mapping[int, Calibration], request: Request
) -> Iterator[tuple[str, float | None]]:
    scores = pair.scores
    yield "identity", scores.identity
    yield "matched", scores.matched
    yield "matched_held_out", scores.matched_held_out
    yield "semi_matched", scores.semi_matched
    for name, null in drawn.items():
        yield from _calibrated(name, calibrate(scores.matched, null.in_sample))
        yield from _calibrated(f"{name}_held_out", calibrate(scores.matched_held_out, null.held_out))
    if privileges:
        yield "aligned_held_out", aligned_held_out(pair.halves, request.drop_dead)
        for side, network in (("a", pair.a), ("b", pair.b)):
            yield f"privilege_{side}", privileges[network].excess
            yield f"privilege_z_{side}", privileges[network].z
    if request.similarities:
        whole = merge(pair.halves)
        if request.drop_dead:
            whole = whole.units(*(whole.variances(k) > 0 for k in (0, 1)))
        for name in request.similarities:
            yield name.replace("-", "_"), SIMILARITIES[name].function(whole)


def _calibrated(prefix: str, found: Calibration) -> Iterator[tuple[str, float | None]]:
    yield f"{prefix}_mean", found.mean
    yield f"{prefix}_deviation", found.deviation
    yield f"{prefix}_excess", found.excess
    yield f"{prefix}_z", found.z
    yield f"{prefix}_beaten", found.beaten
