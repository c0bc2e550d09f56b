"""The scores of a pair beside their nulls and ceilings, as the fields of a record."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

import numpy as np

from basiscli.analysis import nulls
from basiscli.analysis.correlate import extrapolated, learning_curve, standardised
from basiscli.analysis.moments import merge
from basiscli.analysis.nulls import Calibration, Null, calibrate
from basiscli.analysis.pairs import LayerPair, compare_pairs
from basiscli.analysis.passes import Compared, LayerMoments, Reading
from basiscli.analysis.similarity import OF_SPACES, SIMILARITIES, aligned_held_out, cka_debiased
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

    def reading(self, positions: str | int = "all", alone: bool = False, memory: int | None = None) -> Reading:
        """Return how activations are read for it. alone: whether a network is compared with itself."""
        return Reading(self.seed, self.full or alone, positions, self.norms, self.extrapolate, memory)


@dataclass(frozen=True)
class Assessment:
    """A pair, the draws of each null, and the requested scores by their names in a record."""

    pair: LayerPair
    nulls: Mapping[str, Null]
    fields: Mapping[str, float | None]


def assess_layers(
    layers: Iterable[LayerMoments],
    request: CorrelationRequest,
    spread: Callable = map,
    keep: Callable[[Assessment], Assessment] | None = None,
) -> Iterator[tuple[Compared, Iterator[Assessment]]]:
    """Yield each layer with the assessments of all its pairs, in the order of pairs, however the layer is divided.

    layers: from `passes`. spread: a function like `map` for the draws, see `nulls.workers`. keep: is called with each
    assessment as soon as it is made, and returns what is yielded; by default that is `without_arrays`. Take all
    assessments of a layer before the next layer.
    """
    for compared, blocks in groupby(layers, key=attrgetter("compared")):
        yield compared, _in_order(blocks, request, spread, keep or without_arrays)


def _in_order(
    blocks: Iterable[LayerMoments], request: CorrelationRequest, spread: Callable, keep: Callable
) -> Iterator[Assessment]:
    privileges: dict[tuple[int, str], Calibration] = {}
    waiting: list[Assessment] = []

    def place(assessment: Assessment) -> tuple[int, int]:
        pair = assessment.pair
        return places[pair.a, pair.layers[0]], places[pair.b, pair.layers[1]]

    for block in blocks:
        places = {(member.source, member.layer): k for k, member in enumerate(block.compared.members)}
        assessed = map(keep, assess(block, request, spread, privileges))
        if block.completes and not waiting:
            yield from assessed
            continue
        waiting += assessed
        if block.completes:
            yield from sorted(waiting, key=place)
            waiting = []


def assess(
    block: LayerMoments,
    request: CorrelationRequest,
    spread: Callable = map,
    privileges: dict[tuple[int, str], Calibration] | None = None,
) -> Iterator[Assessment]:
    """Yield the pairs of a block of a layer, or of all of it, with their moments.

    privileges: of members of earlier blocks of the layer, by source and layer; those of this block are added.
    """
    privileges = {} if privileges is None else privileges
    if "rotated" in request.nulls:
        new = [k for k, member in enumerate(block.members) if (member.source, member.layer) not in privileges]
        own = merge([half.alone(new) for half in block.halves]).own
        calibrated = nulls.privileges(own, request.draws, request.seed, spread)
        for k, calibration in zip(new, calibrated, strict=True):
            privileges[block.members[k].source, block.members[k].layer] = calibration
    for pair in compare_pairs(block, request.drop_dead):
        drawn = {name: _draw(name, pair, block.compared.rows_per_image, request, spread) for name in request.nulls}
        of_pair = [privileges.get((source, layer)) for source, layer in zip((pair.a, pair.b), pair.layers, strict=True)]
        fields = dict(_fields(pair, drawn, of_pair, request))
        fields |= _similarity_fields(pair, block.compared.rows_per_image, request, spread)
        yield Assessment(pair, drawn, fields)


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
    """Return an assessment without its moments, so that many fit into memory.

    Unless kept, the correlations and all that is known of single units go, too; only the scores remain, as fields.
    """
    pair = replace(assessment.pair, halves=(), nested=())
    if keep_r:
        return replace(assessment, pair=pair)
    nothing = np.empty(0)
    scores = replace(pair.scores, r=np.empty((0, 0)), permutation=nothing, in_sample=nothing, held_out=nothing)
    drawn = {name: replace(null, correlations=nothing) for name, null in assessment.nulls.items()}
    return replace(assessment, pair=replace(pair, scores=scores), nulls=drawn)


def _draw(name: str, pair: LayerPair, rows_per_image: int, request: CorrelationRequest, spread: Callable) -> Null:
    if name == "rotated":
        return nulls.rotated(pair.halves, request.draws, request.seed, request.drop_dead, spread)
    return nulls.shuffled(pair.halves, rows_per_image, request.draws, request.seed, request.drop_dead, spread)


def _fields(
    pair: LayerPair, drawn: Mapping[str, Null], privileges: Sequence[Calibration | None], request: CorrelationRequest
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
    for side, privilege in zip("ab", privileges, strict=True):
        if privilege:
            yield f"privilege_{side}", privilege.excess
            yield f"privilege_z_{side}", privilege.z


def _similarity_fields(
    pair: LayerPair, rows_per_image: int, request: CorrelationRequest, spread: Callable
) -> Iterator[tuple[str, float | None]]:
    """Yield the similarities of a pair; those of spaces with the null of shuffled samples, if that is requested."""
    if not request.similarities:
        return
    whole = merge(pair.halves)
    if request.norms:
        yield "cka_debiased", cka_debiased(whole)
    if request.drop_dead:
        whole = whole.units(*(whole.variances(k) > 0 for k in (0, 1)))
    values = {name: SIMILARITIES[name].function(whole) for name in request.similarities}
    for name, value in values.items():
        yield name.replace("-", "_"), value
    if "shuffled" not in request.nulls:
        return
    defined = {name: SIMILARITIES[name].function for name in OF_SPACES if values.get(name) is not None}
    drawn = {}
    if defined:
        drawn = nulls.shuffled_similarities(whole, rows_per_image, defined, request.draws, request.seed, spread)
    for name in request.similarities:
        if name in OF_SPACES:
            yield from _calibrated(f"{name}_shuffled", calibrate(values[name], drawn.get(name, np.empty(0))))


def _calibrated(prefix: str, calibration: Calibration) -> Iterator[tuple[str, float | None]]:
    yield f"{prefix}_mean", calibration.mean
    yield f"{prefix}_deviation", calibration.deviation
    yield f"{prefix}_excess", calibration.excess
    yield f"{prefix}_z", calibration.z
    yield f"{prefix}_beaten", calibration.beaten
