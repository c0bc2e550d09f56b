"""Basis correlation: do the units of two networks pair up? Every score is a function of `moments.Moments`.

U_a and U_b units; r (U_a, U_b) holds Pearson's correlations, a unit of A a row. docs/metrics.md has the definitions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from basiscli.analysis.moments import Moments, merge


@dataclass(frozen=True)
class Scores:
    """What `compare` found for one layer of two networks. A score is None where it is undefined.

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
    held-out score is None. spread: what maps over the assignments to solve, such as the `map` of a thread pool.
    """
    whole = merge(halves)
    r = correlation(whole)
    live = [whole.variances(k) > 0 for k in (0, 1)]
    rows, columns = (np.flatnonzero(mask) if drop_dead else np.arange(len(mask)) for mask in live)
    kept = r[np.ix_(rows, columns)]
    tables = [kept, *halves_of_r(halves, whole, drop_dead)]
    (i, j), *crosswise = spread(assign, tables)
    permutation = np.full(len(r), -1)
    permutation[rows[i]] = columns[j]
    return Scores(
        units=r.shape,
        dead=tuple(int(np.count_nonzero(~mask)) for mask in live),
        identity=mean(r.diagonal()[live[0] & live[1]] if drop_dead else r.diagonal()) if len(r) == len(r.T) else None,
        semi_matched=semi_matched(kept),
        r=r,
        permutation=permutation,
        in_sample=kept[i, j],
        held_out=held_out(tables[1:], crosswise),
    )


def correlation(moments: Moments) -> np.ndarray:
    """Return r_ij = S_ij / √(S_ii S_jj) of networks 0 and 1, (U_a, U_b); 0 where a unit has no variance."""
    scale_a, scale_b = (inverse_root(moments.variances(k)) for k in (0, 1))
    return np.clip(moments.cross[0, 1] * scale_a[:, None] * scale_b, -1, 1)


def assign(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows i and columns π(i) that maximise Σ r_iπ(i), signed, one to one; all units of the smaller side."""
    return linear_sum_assignment(r, maximize=True)


def halves_of_r(halves: Sequence[Moments], whole: Moments, drop_dead: bool = False) -> list[np.ndarray]:
    """Return the correlations on each of two halves, over the units that both can tell of; nothing for one half alone.

    A unit that varies on one half only is left out: the other half says nothing about it, and a partner chosen there
    would be arbitrary (a network and its permuted copy must score 1). A unit dead on the whole counts 0, as in sample.
    """
    if len(halves) < 2:
        return []
    kept = []
    for k in (0, 1):
        first, second = (half.variances(k) > 0 for half in halves)
        dead = whole.variances(k) == 0
        kept.append(np.flatnonzero((first & second) | (dead & (not drop_dead))))
    return [correlation(half)[np.ix_(*kept)] for half in halves]


def held_out(tables: Sequence[np.ndarray], assigned: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return r_iπ(i) on one half of the rows with π from the other, and the other way round, in one array."""
    return np.concatenate([np.empty(0), *(r[pi] for r, pi in zip(tables, reversed(assigned), strict=True))])


def semi_matched(r: np.ndarray) -> float | None:
    """Return ½ (mean_i max_j r_ij + mean_j max_i r_ij): each unit with its best partner, one partner for many."""
    return float(r.max(axis=1).mean() + r.max(axis=0).mean()) / 2 if r.size else None


def mean(values: np.ndarray) -> float | None:
    """Return the mean, None of nothing."""
    return float(values.mean()) if len(values) else None


def inverse_root(variances: np.ndarray) -> np.ndarray:
    """Return 1/√v, and 0 where v is 0."""
    return np.divide(1, np.sqrt(variances), out=np.zeros(len(variances)), where=variances > 0)
