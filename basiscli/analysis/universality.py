"""Which units have a partner in every other network, and do partners agree? Units of K networks, one layer.

docs/metrics.md has the definitions. Everything follows from the moments of two halves of the rows (`LayerMoments`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.special import stdtr

from basiscli.analysis.correlate import assign, correlation, inverse_root
from basiscli.analysis.moments import Moments, merge
from basiscli.analysis.nulls import over_draws
from basiscli.analysis.passes import LayerMoments
from basiscli.analysis.powers import rotation
from basiscli.analysis.statistics import Estimate, over_networks

FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True)
class UnitScores:
    """The units of one network beside the N other networks of its layer.

    universality: (U,), the mean over other networks of a unit's correlation with its best partner, held out
    null:         (U,), the mean of the same over draws in which the others are rotated
    beaten:       (U,), the share of draws below the universality
    p, q:         (U,), the chance of the null, and adjusted for the number of units (Benjamini and Hochberg 1995)
    partners:     (N, U), the best partner on all rows. correlations (N, U): with the best partner, held out
    stable:       (N, U), whether both halves of the rows choose the same partner
    dead:         (U,), units that are constant: universality 0, p and q 1
    """

    network: int
    others: tuple[int, ...]
    universality: np.ndarray
    null: np.ndarray
    beaten: np.ndarray
    p: np.ndarray
    q: np.ndarray
    partners: np.ndarray
    correlations: np.ndarray
    stable: np.ndarray
    dead: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """(U,), universality - null; 0 for a unit that is no nearer to the others' axes than to any axes."""
        return self.universality - self.null

    def universal(self, rate: float = FALSE_DISCOVERIES) -> np.ndarray:
        """Return which units are universal, (U,); at most `rate` of them are so by chance, in the mean."""
        return self.q <= rate


@dataclass(frozen=True)
class Cycles:
    """How often partners agree: P(π_bc(π_ab(i)) = π_ac(i)) over triples, its error over networks; and its null."""

    estimate: Estimate
    draws: np.ndarray
    triples: int


def universality(layer: LayerMoments, draws: int, seed: int, spread: Callable = map) -> list[UnitScores]:
    """Return the units of every network. spread: a function like `map` for the draws."""
    networks = range(len(layer.networks))
    drawn = over_draws(_Draw(layer.halves, seed), draws, spread)
    return [_scores(layer, k, np.array([of_draw[k] for of_draw in drawn])) for k in networks]


def cycles(layer: LayerMoments, draws: int, seed: int, spread: Callable = map) -> Cycles:
    """Return how often partners agree over all triples of networks, with one-to-one partners found on all rows."""
    whole = merge(layer.halves)
    values = _cycle_values(whole)
    drawn = np.array(over_draws(_CycleDraw(whole, seed), draws, spread))
    return Cycles(over_networks(values), drawn, len(values))


def best_partners(halves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return max_j r_ij held out, (U_a,), and whether both halves choose the same j.

    halves: r (U_a, U_b) on two halves of the rows; j comes from one and r from the other, both ways averaged. Of one
    half alone the maximum is in sample.
    """
    first, last = halves[0], halves[-1]
    chosen = [table.argmax(axis=1) for table in (first, last)]
    units = np.arange(len(first))
    return (last[units, chosen[0]] + first[units, chosen[1]]) / 2, chosen[0] == chosen[1]


def discoveries(p: np.ndarray) -> np.ndarray:
    """Return q = min over p_(k) ≥ p of n p_(k) / k: the smallest false discovery rate that takes each value in."""
    order = np.argsort(p, kind="stable")[::-1]
    ranks = np.arange(len(p), 0, -1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(np.minimum(p[order] * len(p) / ranks, 1))
    return q


def _scores(layer: LayerMoments, network: int, null: np.ndarray) -> UnitScores:
    """Return the scores of one network; null: held-out correlations with the best rotated axes, (draws, N, U)."""
    whole = merge(layer.halves)
    others = [k for k in range(len(layer.networks)) if k != network]
    best = [best_partners([correlation(_pair(half, network, k)) for half in layer.halves]) for k in others]
    correlations, stable = (np.array(part) for part in zip(*best, strict=True))
    u = correlations.mean(axis=0)
    dead = whole.variances(network) == 0
    p = np.where(dead, 1, _chance(u, null))
    q = np.ones(len(p))
    q[~dead] = discoveries(p[~dead])
    return UnitScores(
        network=layer.networks[network],
        others=tuple(layer.networks[k] for k in others),
        universality=u,
        null=null.mean(axis=(0, 1)),
        beaten=(null.mean(axis=1) < u).mean(axis=0),
        p=p,
        q=q,
        partners=np.array([correlation(_pair(whole, network, k)).argmax(axis=1) for k in others]),
        correlations=correlations,
        stable=stable,
        dead=dead,
    )


def _chance(u: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return the chance that u, (U,), comes from the null (draws, N, U): Student's t of a new value beside draws.

    The error of a mean over N networks is taken as that of one: networks that share signals share the accidents of a
    unit with these signals, which independent rotations do not, so a smaller error would find too many.
    """
    n = len(null)
    error = null.std(axis=0, ddof=1).mean(axis=0) * np.sqrt(1 + 1 / n)
    away = u - null.mean(axis=(0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, away / error, np.where(away > 0, np.inf, 0))
    return stdtr(n - 1, -t)


def _pair(moments: Moments, a: int, b: int) -> Moments:
    """Return the moments of networks a and b, in this order, as networks 0 and 1."""
    own = (moments.own[a], moments.own[b])
    return Moments(moments.rows, (moments.means[a], moments.means[b]), own, {(0, 1): moments.product(a, b)})


class _Draw:
    """A draw of the null: for every network its units' correlations with their best rotated axes, (N, U), held out.

    Every unit is divided by its standard deviation over all rows before a network is rotated.
    """

    def __init__(self, halves: Sequence[Moments], seed: int) -> None:
        whole, self._seed = merge(halves), seed
        self._networks = range(len(whole.means))
        scales = [inverse_root(whole.variances(k) / whole.rows) for k in self._networks]
        self._halves = [half.scaled(*scales) for half in halves]

    def __call__(self, draw: int) -> list[np.ndarray]:
        turned = [self._turned(b, draw) for b in self._networks]
        scores = []
        for a in self._networks:
            scores.append(np.array([best_partners(list(turned[b](a)))[0] for b in self._networks if b != a]))
        return scores

    def _turned(self, b: int, draw: int) -> Callable[[int], Iterator[np.ndarray]]:
        """Return a function of a network a: r of its units with the rotated axes of b, for each half."""
        units = len(self._halves[0].means[b])
        q = rotation(units, self._seed, draw * len(self._networks) + b).astype(np.float64)
        across = [inverse_root(np.maximum(np.einsum("ij,ij->j", q, half.own[b] @ q), 0)) for half in self._halves]

        def correlations(a: int) -> Iterator[np.ndarray]:
            for half, scale in zip(self._halves, across, strict=True):
                yield half.product(a, b) @ q * scale * inverse_root(half.variances(a))[:, None]

        return correlations


class _CycleDraw:
    """A draw of the null of cycles: every network rotated after its units are divided by their deviations."""

    def __init__(self, whole: Moments, seed: int) -> None:
        self._networks, self._seed = range(len(whole.means)), seed
        self._whole = whole.scaled(*(inverse_root(whole.variances(k) / whole.rows) for k in self._networks))

    def __call__(self, draw: int) -> float:
        whole, count = self._whole, len(self._networks)
        turns = [rotation(len(whole.means[k]), self._seed, draw * count + k).astype(np.float64) for k in self._networks]
        own = tuple(np.einsum("ij,ij->j", q, s @ q) for q, s in zip(turns, whole.own, strict=True))
        cross = {(a, b): turns[a].T @ s @ turns[b] for (a, b), s in whole.cross.items()}
        return float(np.mean(list(_cycle_values(Moments(whole.rows, whole.means, own, cross)).values())))


def _cycle_values(moments: Moments) -> dict[Any, float]:
    """Return P(π_bc(π_ab(i)) = π_ac(i)) for each triple a < b < c, over units i of a that vary and have partners."""
    networks = range(len(moments.means))
    partner = {}
    for a, b in combinations(networks, 2):
        i, j = assign(correlation(moments.pair(a, b)))
        partner[a, b] = np.full(len(moments.means[a]), -1)
        partner[a, b][i] = j
    values = {}
    for a, b, c in combinations(networks, 3):
        around, direct = partner[a, b], partner[a, c]
        counted = (around >= 0) & (direct >= 0) & (moments.variances(a) > 0)
        agrees = partner[b, c][around[counted]] == direct[counted]
        values[a, b, c] = float(agrees.mean()) if len(agrees) else 0.0
    return values
