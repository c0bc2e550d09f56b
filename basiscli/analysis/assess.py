"""The scores of a pair beside their nulls and ceilings, as the fields of a record."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basiscli.analysis import nulls
from basiscli.analysis.correlate import extrapolated, learning_curve, standardised
from basiscli.analysis.moments import merge
from basiscli.analysis.nulls import Calibration, Null, calibrate
from basiscli.analysis.pairs import LayerMoments, LayerPair, compare_pairs
from basiscli.analysis.similarity import SIMILARITIES, aligned_held_out, cka_debiased
from basiscli.analysis.statistics import over_networks, share, share_over_networks

NULLS = ("rotated", "shuffled")
# The scores that a share is made of: the score, its null and its ceiling.
SHARE_OF = ("matched_held_out", "standardised_rotated_held_out_mean", "standardised_aligned_held_out")
# The extrapolation uses three scores, with π from these parts of a half's images.
SIZES = (0.25, 0.5, 1)
# The scores that records of sweeps over widths and prefixes repeat, with intervals.
SCORES = (
    "matched_held_out", "rotated_held_out_mean", "rotated_held_out_excess", "aligned_held_out",
    "standardised_rotated_held_out_mean", "standardised_rotated_held_out_excess", "standardised_aligned_held_out",
)  # fmt: skip


@dataclass(frozen=True)
class CorrelationRequest:
    """What to compute for every pair beside its scores. seed: of the draws. extrapolate: needs nested moments."""

    nulls: Sequence[str] = ()
    draws: int = 100
    similarities: Sequence[str] = ()
    drop_dead: bool = False
    seed: int = 0
    extrapolate: bool = False

    @property
    def full(self) -> bool:
        """Whether the full second moments of each network are needed."""
        return bool(self.nulls or self.similarities)

    @property
    def norms(self) -> bool:
        """Whether sums with the norms of rows are needed, for debiased CKA."""
        return "cka" in self.similarities


@dataclass(frozen=True)
class Assessment:
    """A pair, the draws of each null, and the requested scores by their names in a record."""

    pair: LayerPair
    nulls: Mapping[str, Null]
    fields: Mapping[str, float | None]


def assess(moments: LayerMoments, request: CorrelationRequest, spread: Callable = map) -> Iterator[Assessment]:
    """Yield every pair of networks of a layer. spread: a function like `map` for the draws, see `nulls.workers`."""
    privileges = _privileges(moments, request, spread) if "rotated" in request.nulls else {}
    for pair in compare_pairs(moments, request.drop_dead):
        drawn = {name: _draw(name, pair, moments.rows_per_image, request, spread) for name in request.nulls}
        yield Assessment(pair, drawn, dict(_fields(pair, drawn, privileges, request)))


def summarise(assessed: Sequence[Assessment]) -> dict[str, float | None]:
    """Return the mean of each field over pairs, and <field>_low, _high and _error where an interval makes sense.

    The share is the share of the means, not the mean of the shares.
    """
    summary: dict[str, float | None] = {}
    tables = tables_of(assessed)
    for name, values in tables.items():
        if name == "share":
            estimate = share_over_networks(*(tables[part] for part in SHARE_OF))
        else:
            estimate = over_networks(values)
        fields = estimate.fields(name, bound(name))
        summary |= fields if has_interval(name) else {name: fields[name]}
    return summary


def tables_of(assessed: Sequence[Assessment]) -> dict[str, dict[tuple[int, int], float | None]]:
    """Return each field of the pairs of a layer, by pair of networks."""
    return {
        name: {(assessment.pair.a, assessment.pair.b): assessment.fields[name] for assessment in assessed}
        for name in assessed[0].fields
    }


def has_interval(field: str) -> bool:
    """Whether a field is a score of networks. The fields that describe the draws of a null have no interval."""
    return not field.endswith(("_deviation", "_z", "_z_a", "_z_b", "_beaten"))


def bound(field: str) -> float:
    """Return the largest possible size of a field: 1 for a score, 2 for a difference, infinity for a share."""
    if field == "share":
        return math.inf
    return 2.0 if field.endswith("excess") or field.startswith("privilege") else 1.0


def explain(similarity: str) -> str:
    """Return a line on how to read a similarity."""
    about = SIMILARITIES[similarity]
    return (
        f"{similarity}: {about.range}, higher is more alike, the same after {about.invariant_to} of either network "
        f"({about.source})"
    )


def without_arrays(assessment: Assessment, keep_r: bool = False) -> Assessment:
    """Return an assessment without its moments and, unless kept, its correlations, so that many fit into memory."""
    scores = assessment.pair.scores if keep_r else replace(assessment.pair.scores, r=np.empty((0, 0)))
    return replace(assessment, pair=replace(assessment.pair, scores=scores, halves=(), nested=()))


def _draw(name: str, pair: LayerPair, rows_per_image: int, request: CorrelationRequest, spread: Callable) -> Null:
    if name == "rotated":
        return nulls.rotated(pair.halves, request.draws, request.seed, request.drop_dead, spread)
    return nulls.shuffled(pair.halves, rows_per_image, request.draws, request.seed, request.drop_dead, spread)


def _privileges(moments: LayerMoments, request: CorrelationRequest, spread: Callable) -> dict[int, Calibration]:
    """Return how privileged each network's basis is, by the source's number."""
    calibrated = nulls.privileges(merge(moments.halves).own, request.draws, request.seed, spread)
    return dict(zip(moments.networks, calibrated, strict=True))


def _fields(
    pair: LayerPair, drawn: Mapping[str, Null], privileges: Mapping[int, Calibration], request: CorrelationRequest
) -> Iterator[tuple[str, float | None]]:
    scores = pair.scores
    yield "identity", scores.identity
    yield "matched", scores.matched
    yield "matched_held_out", scores.matched_held_out
    yield "semi_matched", scores.semi_matched
    if request.extrapolate:
        curve = learning_curve(pair.halves, pair.nested, request.drop_dead) if pair.nested else [None] * 2
        yield from zip(("quarter_held_out", "half_held_out"), curve, strict=True)
        yield "extrapolated_held_out", extrapolated([*curve, scores.matched_held_out], SIZES)
    for name, null in drawn.items():
        yield from _calibrated(name, calibrate(scores.matched, null.in_sample))
        yield from _calibrated(f"{name}_held_out", calibrate(scores.matched_held_out, null.held_out))
    if "rotated" in drawn:
        yield "aligned_held_out", aligned_held_out(pair.halves, request.drop_dead)
        calibration = calibrate(scores.matched_held_out, drawn["rotated"].standardised_held_out)
        ceiling = aligned_held_out(standardised(pair.halves), request.drop_dead) if len(pair.halves) > 1 else None
        yield from _calibrated("standardised_rotated_held_out", calibration)
        yield "standardised_aligned_held_out", ceiling
        yield "share", share(scores.matched_held_out, calibration.mean, ceiling)
    if privileges:
        for side, network in (("a", pair.a), ("b", pair.b)):
            yield f"privilege_{side}", privileges[network].excess
            yield f"privilege_z_{side}", privileges[network].z
    if request.similarities:
        whole = merge(pair.halves)
        if request.norms:
            yield "cka_debiased", cka_debiased(whole)
        if request.drop_dead:
            whole = whole.units(*(whole.variances(k) > 0 for k in (0, 1)))
        for name in request.similarities:
            yield name.replace("-", "_"), SIMILARITIES[name].function(whole)


def _calibrated(prefix: str, calibration: Calibration) -> Iterator[tuple[str, float | None]]:
    yield f"{prefix}_mean", calibration.mean
    yield f"{prefix}_deviation", calibration.deviation
    yield f"{prefix}_excess", calibration.excess
    yield f"{prefix}_z", calibration.z
    yield f"{prefix}_beaten", calibration.beaten
