"""Basis correlation: do the units of two networks pair up? Every score is a function of `moments.Moments`.

U_a and U_b units; r (U_a, U_b) holds Pearson's correlations, a unit of A a row. docs/metrics.md has the definitions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from basiscli.analysis.moments import Moments, merge
from basiscli.kernels import assignment


@dataclass(frozen=True)
class Scores:
    """The scores of one layer of two networks, from `compare`. A score is None where it is undefined.

    r:           (U_a, U_b), correlations over all rows
    permutation: (U_a,), the unit of B that each unit of A is matched with, -1 for none
    in_sample:   the matched correlations, one a matched pair of units; `matched` is their mean
    held_out:    the same with π from one half of the rows and r from the other, for both halves in turn
    """

    units: tuple[int, int]
    dead: tuple[int, int]
    identity: float | None
    semi_matched: float | None
    r: np.ndarray
    permutation: np.ndarray
    in_sample: np.ndarray
    held_out: np.ndarray

    @property
    def matched(self) -> float | None:
        return mean(self.in_sample)

    @property
    def matched_held_out(self) -> float | None:
        return mean(self.held_out)


def compare(halves: Sequence[Moments], drop_dead: bool = False, spread: Callable = map) -> Scores:
    """Score one layer of two networks from the moments of two disjoint halves of the rows.

    A unit without variance correlates 0 and is counted; with drop_dead it is left out. With one half alone, the
    held-out score is None. spread: a function like `map` for the assignments, such as the `map` of a thread pool.
    """
    whole = merge(halves)
    r = correlation(whole)
    live = [whole.variances(k) > 0 for k in (0, 1)]
    rows, columns = (np.flatnonzero(mask) if drop_dead else np.arange(len(mask)) for mask in live)
    kept = r[np.ix_(rows, columns)]
    crossings = crossings_of(halves, (rows, columns))
    (i, j), *crosswise = spread(assign, [kept, *(crossing.r for crossing in crossings)])
    permutation = np.full(len(r), -1)
    permutation[rows[i]] = columns[j]
    return Scores(
        units=r.shape,
        dead=(int(np.count_nonzero(~live[0])), int(np.count_nonzero(~live[1]))),
        identity=mean(r.diagonal()[live[0] & live[1]] if drop_dead else r.diagonal()) if len(r) == len(r.T) else None,
        semi_matched=semi_matched(kept),
        r=r,
        permutation=permutation,
        in_sample=kept[i, j],
        held_out=held_out(crossings, crosswise),
    )


def correlation(moments: Moments) -> np.ndarray:
    """Return r_ij = S_ij / √(S_ii S_jj) of networks 0 and 1, (U_a, U_b); 0 where a unit has no variance."""
    scale_a, scale_b = (inverse_root(moments.variances(k)) for k in (0, 1))
    return np.clip(moments.cross[0, 1] * scale_a[:, None] * scale_b, -1, 1)


def assign(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows i and columns π(i), one to one, that maximise Σ r_iπ(i), signed; all units of the smaller side."""
    return assignment.assign(r)


def standardised(halves: Sequence[Moments]) -> list[Moments]:
    """Return the moments of both networks with every unit divided by its standard deviation over all rows."""
    whole = merge(halves)
    scales = [inverse_root(whole.variances(k) / whole.rows) for k in (0, 1)]
    return [half.scaled(*scales) for half in halves]


@dataclass(frozen=True)
class Crossing:
    """One half of the rows, for the units that are scored: r (U_a, U_b), and the units that are constant on it.

    constant: the units of A, and of B, without variance on this half. dead: those without variance on all rows.
    """

    r: np.ndarray
    constant: tuple[np.ndarray, np.ndarray]
    dead: tuple[np.ndarray, np.ndarray]


def crossings_of(halves: Sequence[Moments], units: tuple[np.ndarray, np.ndarray]) -> list[Crossing]:
    """Return the crossing of each of two halves, for some units of A and of B; of one half alone, an empty list."""
    if len(halves) < 2:
        return []
    constant = [tuple(half.variances(k)[units[k]] == 0 for k in (0, 1)) for half in halves]
    dead = tuple(first & second for first, second in zip(*constant, strict=True))
    tables = [correlation(half)[np.ix_(*units)] for half in halves]
    return [Crossing(r, of_half, dead) for r, of_half in zip(tables, constant, strict=True)]


def held_out_alone(halves: Sequence[Moments], drop_dead: bool = False) -> np.ndarray:
    """Return only `Scores.held_out` of `compare`, which takes two assignments instead of three."""
    crossings = crossings_of(halves, _scored_units(halves, drop_dead))
    return held_out(crossings, [assign(crossing.r) for crossing in crossings])


def held_out(crossings: Sequence[Crossing], assigned: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return r_iπ(i) on one half of the rows with π from the other, and the other way round, in one array.

    Every unit is matched, and r is 0 where a unit is constant. A pair is left out only if both its units are constant
    on the same half and vary on the other: a network and its permuted copy must score 1. Units that are dead on all
    rows count 0, as in sample.
    """
    ways = zip(crossings, reversed(crossings), reversed(assigned), strict=True)
    return np.concatenate([np.empty(0), *(_scored(score, fit, *pi) for score, fit, pi in ways)])


def learning_curve(
    halves: Sequence[Moments], nested: Sequence[Sequence[Moments]], drop_dead: bool = False
) -> list[float | None]:
    """Return held-out scores with π from parts of a half, from the smallest on, and r from the whole other half.

    nested: for each half the moments of its parts, from the smallest.
    """
    units = _scored_units(halves, drop_dead)
    curve = []
    for of_size in zip(*nested, strict=True):
        scores = []
        for fit, score in zip(of_size, reversed(halves), strict=True):
            crossing, other = crossings_of([fit, score], units)
            scores.append(_scored(other, crossing, *assign(crossing.r)))
        curve.append(mean(np.concatenate(scores)))
    return curve


def extrapolated(scores: Sequence[float | None], sizes: Sequence[float]) -> float | None:
    """Return the score at infinitely many images: a of the least-squares line a + b / n through scores at sizes n."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    return float(np.polyfit(1 / np.asarray(sizes, dtype=np.float64), known, 1)[1])


def _scored(score: Crossing, fit: Crossing, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return r_ij on the rows of `score` for the pairs matched on the rows of `fit`, without those left out."""
    i, j = _dead_together(fit, i, j)
    silent = [table.constant[0][i] & table.constant[1][j] for table in (score, fit)]
    left_out = (silent[0] | silent[1]) & ~(fit.dead[0][i] | fit.dead[1][j])
    return score.r[i, j][~left_out]


def _scored_units(halves: Sequence[Moments], drop_dead: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the units of A, and of B, that are scored: all units, or those that vary."""
    live = [np.any([half.variances(k) > 0 for half in halves], axis=0) for k in (0, 1)]
    rows, columns = (np.flatnonzero(mask | (not drop_dead)) for mask in live)
    return rows, columns


def _dead_together(fit: Crossing, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair the units again that were matched while both were constant, dead units with dead units first.

    All their correlations are 0, so any pairing of them is as good an assignment, and the solver's choice is arbitrary.
    """
    free = fit.constant[0][i] & fit.constant[1][j]
    i, j = i.copy(), j.copy()
    for units, dead in ((i, fit.dead[0]), (j, fit.dead[1])):
        chosen = units[free]
        units[free] = chosen[np.argsort(~dead[chosen], kind="stable")]
    return i, j


def semi_matched(r: np.ndarray) -> float | None:
    """Return ½ (mean_i max_j r_ij + mean_j max_i r_ij): each unit with its best partner, one partner for many."""
    return float(r.max(axis=1).mean() + r.max(axis=0).mean()) / 2 if r.size else None


def mean(values: np.ndarray) -> float | None:
    """Return the mean, None for an empty array."""
    return float(values.mean()) if len(values) else None


def inverse_root(variances: np.ndarray) -> np.ndarray:
    """Return 1/√v, and 0 where v is 0."""
    return np.divide(1, np.sqrt(variances), out=np.zeros(len(variances)), where=variances > 0)
