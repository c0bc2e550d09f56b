"""The control of `connectivity`: matches degraded until all widths correlate alike (docs/connectivity.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basiscli.alignment import interpolation, matching
from basiscli.alignment.interpolation import Permutations
from basiscli.analysis.barriers import CIRCLE, FEWER
from basiscli.analysis.degrade import undone
from basiscli.files.networks import Loaded
from basiscli.nn.unit_groups import Segment
from basiscli.rng import generator

# The common correlation lies this far below the lowest correlation of any width.
BELOW = 0.05
# Correlations that differ by less than this are equal.
EQUAL = 0.01
# Steps of the search for the part to undo; the fewest images of a match; numbers of images tried around the best.
STEPS, FEWEST_IMAGES, BESIDE = 12, 4, 5
SEED = 0

Pair = tuple[int, int]
Segments = Mapping[str, Sequence[Segment]]


@dataclass(frozen=True)
class Degraded:
    """A degraded match: its name, its permutations, and the mean correlation of each pair under them.

    images: the number of images of the matching, None if it is that of the original match.
    """

    name: str
    permutations: dict[Pair, Permutations]
    applied: dict[Pair, float]
    images: int | None = None

    @property
    def mean(self) -> float:
        """Its correlation, the mean over pairs."""
        return float(np.mean(list(self.applied.values())))


def is_equal(correlation: float | None, goal: float | None) -> bool | None:
    """Whether a degraded match reached the goal, to within EQUAL; None without a goal or a correlation."""
    return None if goal is None or correlation is None else abs(correlation - goal) < EQUAL


def circled(
    match: str, segments: Segments, r: Mapping[Pair, Mapping[str, np.ndarray]], aligned: Mapping, goal: float
) -> Degraded:
    """Return a match in which a random part of the units of each group pass their partners on in a circle.

    r: by pair and layer, the correlations (U, U). In every pair all groups lose the same part of their correlation, so
    that the mean over layers is the goal. A pair whose correlation is not above the goal does not change.
    """
    degraded = Degraded(f"{match}{CIRCLE}", {}, {})
    for pair, permutations in aligned.items():
        tables = _group_tables(segments, r[pair], permutations)
        tried = [permutations]
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            part = (low + high) / 2
            tried.append(_undone(permutations, tables, part, pair))
            low, high = (part, high) if applied(segments, r[pair], tried[-1]) < goal else (low, part)
        correlations = [applied(segments, r[pair], attempt) for attempt in tried]
        best = 0 if correlations[0] <= goal else int(np.argmin(np.abs(np.subtract(correlations, goal))))
        degraded.permutations[pair], degraded.applied[pair] = tried[best], correlations[best]
    return degraded


def fewer_images(
    match: str,
    segments: Segments,
    r: Mapping[Pair, Mapping[str, np.ndarray]],
    networks: Sequence[Loaded],
    request: matching.MatchRequest,
    most: int,
    goal: float,
) -> Degraded:
    """Return a match from so few images that its mean correlation over pairs and layers is the goal.

    most: the number of images of the original match. The number is found by halving. More images do not always help,
    so numbers around the best one are tried as well.
    """

    def matched_on(images: int) -> Degraded:
        ((_, aligned),) = interpolation.alignments(networks, {match: replace(request, samples=images)})
        correlations = {pair: applied(segments, r[pair], degraded) for pair, degraded in aligned.items()}
        return Degraded(f"{match}{FEWER}", aligned, correlations, images)

    def distance(degraded: Degraded) -> float:
        return abs(degraded.mean - goal)

    low, high = min(FEWEST_IMAGES, most), most
    tried = {low: matched_on(low)}
    while high - low > 1 and all(distance(degraded) > EQUAL / 4 for degraded in tried.values()):
        images = round((low * high) ** 0.5)
        tried[images] = matched_on(images)
        low, high = (images, high) if tried[images].mean < goal else (low, images)
    nearest = min(tried, key=lambda images: distance(tried[images]))
    best = tried[nearest]
    for images in range(max(nearest - BESIDE, FEWEST_IMAGES), min(nearest + BESIDE, most) + 1):
        if distance(best) > EQUAL / 2 and images not in tried:
            best = min(best, matched_on(images), key=distance)
    return best


def applied(segments: Segments, r: Mapping[str, np.ndarray], permutations: Permutations) -> float:
    """Return the mean correlation, over layers, of the units that permutations pair; r (U, U) by layer."""
    return float(np.mean([paired(r[layer], segments[layer], permutations) for layer in r]))


def paired(r: np.ndarray, segments: Sequence[Segment], permutations: Permutations) -> float:
    """Return the mean of r (U, U) over the pairs of units that permutations of the layer's groups make."""
    return float(np.mean(r[np.arange(len(r)), along(segments, permutations)], dtype=np.float64))


def along(segments: Sequence[Segment], permutations: Permutations) -> np.ndarray:
    """Return the permutation of a layer's units, put together from those of its groups."""

    def part(segment: Segment) -> np.ndarray:
        p = None if segment.group is None else permutations.get(segment.group)
        return segment.start + (np.arange(segment.stop - segment.start) if p is None else p)

    return np.concatenate([part(segment) for segment in segments])


def _undone(
    permutations: Permutations, tables: Mapping[str, np.ndarray], part: float, pair: Pair
) -> dict[str, np.ndarray]:
    """Return permutations with every group undone to a part of its mean correlation; the same units at every part."""
    rng = generator(SEED, "degrade", *pair)
    return {
        group: permutations[group][undone(table, part * float(table.diagonal().mean()), rng)]
        for group, table in tables.items()
    }


def _group_tables(segments: Segments, r: Mapping[str, np.ndarray], permutations: Permutations) -> dict[str, np.ndarray]:
    """Return for each group the mean over its layers of r with B's units permuted, partners on the diagonal."""
    tables_of: dict[str, list] = {}
    for layer, of_layer in segments.items():
        matched = r[layer][:, along(of_layer, permutations)]
        for segment in of_layer:
            if segment.group is not None:
                place = slice(segment.start, segment.stop)
                tables_of.setdefault(segment.group, []).append(matched[place, place])
    return {group: np.mean(tables, axis=0) for group, tables in tables_of.items()}
