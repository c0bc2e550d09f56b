"""Matching of units, all groups at once: from weights, or from correlations.

A group has U units and a permutation p: unit i of A corresponds to unit p[i] of B. Axes are those of `UnitGroups.axes`.
A group that has no permutation yet is unplaced. docs/match.md has the definitions.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from basiscli.analysis.correlate import assign, correlation
from basiscli.analysis.moments import Moments
from basiscli.device.threads import blas
from basiscli.rng import generator

# The smallest gain of a new assignment, as a part of the old one's absolute costs: float32 does not resolve less.
SMALLEST_GAIN = 1e-6
# Coordinate descent ends by itself. This bound is for rounding errors that go in circles.
MOST_SWEEPS = 1000

Permutations = dict[str, np.ndarray]


@dataclass(frozen=True)
class Objective:
    """The objective f(p) = Σ over arrays <A, p(B)>. Each of its terms depends on one group or on two.

    units:  the number of units by group
    single: (U, U) by group, Σ_k A_ik B_jk over parts whose other axes are all fixed (the input, the logits, kernels)
    double: by pair of groups, A and B (U_g, K, U_h): the blocks of all arrays that both groups span, one after another
    norms:  by group, Σ A² and Σ B² over its part of `single`
    """

    units: dict[str, int]
    single: dict[str, np.ndarray]
    double: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    norms: dict[str, np.ndarray]

    def value(self, p: Permutations) -> float:
        """Return f(p)."""
        singles = sum(_picked(self.single[group], p[group]) for group in self.units)
        return singles + sum(self._shared(pair, p) for pair in self.double)

    def cosine(self, p: Permutations) -> float:
        """Return f(p) / (|A| |B|), 0 where nothing is compared."""
        singles, doubles = self.norms.values(), map(_squares, self.double.values())
        return _cosine(self.value(p), sum(singles, np.zeros(2)) + sum(doubles, np.zeros(2)))

    def cosines(self, p: Permutations) -> dict[str, float]:
        """Return the cosine over the arrays that hold a group, by group."""
        shared = {pair: (self._shared(pair, p), _squares(self.double[pair])) for pair in self.double}
        cosines = {}
        for group in self.units:
            parts = [part for pair, part in shared.items() if group in pair]
            value = _picked(self.single[group], p[group]) + sum(part for part, _ in parts)
            cosines[group] = _cosine(value, self.norms[group] + sum(squares for _, squares in parts))
        return cosines

    def neighbours(self, group: str) -> list[str]:
        """Return the groups that share an array with a group."""
        return [h if g == group else g for g, h in self.double if group in (g, h)]

    def table(self, group: str, other: str, p: np.ndarray) -> np.ndarray:
        """Return Σ_ku A_iku B_jkp[u], (U, U): the part of a group's costs from a neighbour with permutation p."""
        if (group, other) in self.double:
            a, b = self.double[group, other]
            return a.reshape(len(a), -1) @ b[:, :, p].reshape(len(b), -1).T
        a, b = self.double[other, group]
        return a.reshape(-1, a.shape[-1]).T @ b[p].reshape(-1, b.shape[-1])

    def _shared(self, pair: tuple[str, str], p: Permutations) -> float:
        a, b = self.double[pair]
        moved = b[p[pair[0]]][:, :, p[pair[1]]]
        return float(np.dot(a.ravel(), moved.ravel()))


def objective(
    units: Mapping[str, int],
    axes: Mapping[str, Mapping[int, object]],
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
) -> Objective:
    """Return the objective of two networks' arrays (without the seed axis) of the same paths and shapes.

    Axes are counted from the end; those that `axes` leaves out are fixed. Raises ValueError for a group that lies on
    both axes of an array: f would be quadratic in its permutation, and linear assignment would not solve it.
    """
    single = {group: np.zeros((size, size)) for group, size in units.items()}
    norms = {group: np.zeros(2) for group in units}
    shared: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    for path in a:
        blocks = [_blocks(arrays[path], axes.get(path, {})) for arrays in (a, b)]
        for (g, h, part_a), (*_, part_b) in zip(*blocks, strict=True):
            if g is not None and g == h:
                raise ValueError(f"{path}: {g} lies on both axes")
            if g is not None and h is not None:
                _add_pair(shared, (g, h), part_a, part_b)
            elif g is not None or h is not None:
                group, place = (g, 0) if h is None else (h, 2)
                rows = [np.moveaxis(part, place, 0).reshape(units[group], -1) for part in (part_a, part_b)]
                single[group] += rows[0] @ rows[1].T
                norms[group] += _squares(rows)
    double = {
        pair: (np.concatenate([a for a, _ in blocks], axis=1), np.concatenate([b for _, b in blocks], axis=1))
        for pair, blocks in shared.items()
    }
    return Objective(dict(units), single, double, norms)


@dataclass(frozen=True)
class Descent:
    """The end of one coordinate descent: permutations, the value of f, and how often each group was assigned again."""

    permutations: Permutations
    value: float
    steps: dict[str, int]


def descend(f: Objective, start: Permutations, order: Sequence[str]) -> Descent:
    """Return a local optimum of f by coordinate descent over groups (Ainsworth et al. 2023, algorithm 1).

    While all other permutations are fixed, f is linear in the permutation of one group, and linear assignment finds the
    best permutation. The groups of `order` are assigned in turn, again and again, until no group gains. f never falls.
    Groups outside `order` keep their permutation. A group that `start` leaves out is unplaced: f ignores it until its
    first turn.
    """
    p, steps = dict(start), dict.fromkeys(f.units, 0)
    tables: dict[tuple[str, str], np.ndarray] = {}
    stale = set(order)
    for _ in range(MOST_SWEEPS):
        for group in order:
            if group not in stale:
                continue
            stale.discard(group)
            costs = _costs(f, group, p, tables)
            best = assign(costs)[1]
            if group in p and not _gains(costs, p[group], best):
                continue
            p[group], steps[group] = best, steps[group] + 1
            for other in f.neighbours(group):
                tables.pop((other, group), None)
                if other in order:
                    stale.add(other)
        if not stale:
            break
    return Descent(p, f.value(p), steps)


@dataclass(frozen=True)
class Start:
    """The start of a descent: permutations (a group without one is unplaced), and the order of the groups."""

    permutations: Permutations
    order: tuple[str, ...]


def starts(units: Mapping[str, int], restarts: int, seed: int, first: Permutations, fixed: bool = False) -> list[Start]:
    """Return the starts of a search: `first`, then in turn all groups unplaced, and random permutations.

    Each start takes the groups in a random order. A descent from unplaced groups follows the weights that the groups
    share with the input, the logits and each other, and ends higher (docs/match.md). It depends on the order alone, so
    an order that was used before gets random permutations. fixed: all start from `first`, and differ in the order.
    """
    orders, seen = [], set()
    for number in range(restarts):
        rng = generator(seed, "match", number)
        order = tuple(rng.permutation(list(units)).tolist())
        if fixed or not number:
            start = first
        elif number % 2 and order not in seen:
            start = {}
            seen.add(order)
        else:
            start = {group: rng.permutation(size) for group, size in units.items()}
        orders.append(Start(start, order))
    return orders


@dataclass(frozen=True)
class Search:
    """The best of several descents, the first one if several are equal.

    agreed: how many descents reached the best value, up to rounding.
    same:   by group, how many descents found the same permutation as the best one.
    """

    best: Descent
    agreed: int
    same: dict[str, int]


def search(f: Objective, starts: Sequence[Start]) -> Search:
    """Descend from every start, on all cores, and keep the best."""
    # Each thread of the pool has one BLAS thread: the products are small, and several BLAS threads wait for each other
    # (8 starts of a ResNet-20 of width 4 on two busy cores: 90 s, and 5.5 s this way).
    with blas().limit(limits=1), ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda start: descend(f, start.permutations, start.order), starts))
    best = max(done, key=lambda descent: descent.value)
    within = SMALLEST_GAIN * abs(best.value)
    return Search(
        best,
        sum(best.value - descent.value <= within for descent in done),
        {
            group: sum(np.array_equal(descent.permutations[group], p) for descent in done)
            for group, p in best.permutations.items()
        },
    )


def similarities(
    units: Mapping[str, int],
    layers: Mapping[str, Sequence],
    moments: Mapping[str, Moments],
    table: Callable[[Moments], np.ndarray] = correlation,
) -> dict[str, np.ndarray]:
    """Return by group the mean over its layers of `table` (U_a, U_b): `correlation`, or `products`.

    layers: by name the segments, as `UnitGroups.layers`. moments: of A and B, by layer. The table of a group is 0 if
    there are moments of none of its layers.
    """
    sums = {group: np.zeros((size, size)) for group, size in units.items()}
    counts = dict.fromkeys(units, 0)
    for layer, of_layer in moments.items():
        weighted = table(of_layer)
        for segment in layers[layer]:
            if segment.group is not None:
                part = slice(segment.start, segment.stop)
                sums[segment.group] += weighted[part, part]
                counts[segment.group] += 1
    return {group: total / max(counts[group], 1) for group, total in sums.items()}


def products(moments: Moments) -> np.ndarray:
    """Return the mean over rows of x_i y_j, (U_a, U_b): the inner products that Ainsworth et al. 2023 match by."""
    return moments.cross[0, 1] / moments.rows + np.outer(*moments.means)


def matched(tables: Mapping[str, np.ndarray]) -> Permutations:
    """Return by group the permutation with the largest Σ_i table[i, p[i]]."""
    return {group: assign(table)[1] for group, table in tables.items()}


def identities(units: Mapping[str, int]) -> Permutations:
    """Return the permutations that change nothing."""
    return {group: np.arange(size) for group, size in units.items()}


def relative(to: Permutations, p: Permutations) -> Permutations:
    """Return the permutations from A to B, given those from a third network to A (`to`) and to B (`p`)."""
    return {group: p[group][np.argsort(to[group])] for group in p}


def _costs(f: Objective, group: str, p: Permutations, tables: dict) -> np.ndarray:
    """Return C with f(p) = Σ_i C_ip[i] + terms without the group. `tables` caches the terms of each neighbour."""
    costs = f.single[group].copy()
    for other in f.neighbours(group):
        if other in p:
            if (group, other) not in tables:
                tables[group, other] = f.table(group, other, p[other])
            costs += tables[group, other]
    return costs


def _gains(costs: np.ndarray, old: np.ndarray, new: np.ndarray) -> bool:
    rows = np.arange(len(old))
    before, after = costs[rows, old], costs[rows, new]
    return after.sum() - before.sum() > SMALLEST_GAIN * np.abs(before).sum()


def _picked(table: np.ndarray, p: np.ndarray) -> float:
    return float(table[np.arange(len(p)), p].sum())


def _squares(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([float(np.dot(array.ravel(), array.ravel())) for array in arrays])


def _cosine(value: float, squares: np.ndarray) -> float:
    return value / float(np.sqrt(squares.prod())) if squares.all() else 0.0


def _add_pair(shared: dict, pair: tuple[str, str], a: np.ndarray, b: np.ndarray) -> None:
    """Add blocks (U_g, K, U_h) to those of their pair. If the pair is stored as (h, g), they are transposed first."""
    if pair[::-1] in shared:
        pair, a, b = pair[::-1], np.moveaxis(a, 0, 2).swapaxes(0, 1), np.moveaxis(b, 0, 2).swapaxes(0, 1)
    shared.setdefault(pair, []).append((a, b))


def _blocks(array: np.ndarray, axes: Mapping[int, object]) -> Iterator[tuple[str | None, str | None, np.ndarray]]:
    """Yield (g, h, part) for each pair of segments of the last two axes: part (U_g, K, U_h), K all other axes."""
    array = array.reshape(1, -1) if array.ndim == 1 else array
    inputs, outputs = (_split(array.shape[place], axes.get(place)) for place in (-2, -1))
    whole = array.reshape(-1, inputs[0], inputs[1], outputs[0], outputs[1])
    whole = whole.transpose(2, 0, 1, 3, 4).reshape(inputs[1], -1, outputs[1])
    for (g, rows), (h, columns) in product(inputs[2], outputs[2]):
        yield g, h, whole[rows, :, columns]


def _split(size: int, axis) -> tuple[int, int, list[tuple[str | None, slice]]]:
    """Return how often an axis repeats its units, the number of units, and the place of each group among them."""
    if axis is None:
        return 1, size, [(None, slice(0, size))]
    segments = [(segment.group, slice(segment.start, segment.stop)) for segment in axis.segments]
    return axis.repeat, axis.units, segments
