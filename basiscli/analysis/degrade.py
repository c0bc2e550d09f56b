"""Undoing part of a matching, so that it correlates as little as another one. U units."""

import numpy as np


def undone(matched: np.ndarray, goal: float, rng: np.random.Generator) -> np.ndarray:
    """Return p (U,) such that the mean of matched[i, p[i]] is as near to `goal` as a random part of the units allows.

    matched (U, U): correlations after matching, partners on the diagonal. The first k units of a random order pass
    their partners on in a circle, the others keep theirs; k is the smallest one that comes nearest. Nothing is undone
    where the matching correlates no more than the goal.
    """
    units = len(matched)
    order = rng.permutation(units)
    r = matched[np.ix_(order, order)].astype(np.float64)
    kept = np.concatenate([r.diagonal()[::-1].cumsum()[::-1], [0]])
    passed = np.concatenate([[0], r.diagonal(1).cumsum()])
    counts = np.arange(2, units + 1)
    means = np.concatenate([[kept[0]], kept[counts] + passed[counts - 1] + r[counts - 1, 0]]) / units
    k = [0, *counts][int(np.argmin(np.abs(means - goal)))] if means[0] > goal else 0
    p = np.arange(units)
    p[order[:k]] = np.roll(order[:k], -1)
    return p
