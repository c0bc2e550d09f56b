"""Similarities beside the basis correlation. Most ignore rotations, and so are its ceilings (docs/metrics.md).

Every function takes the full moments of networks 0 and 1 and returns a number, None where it is undefined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from basiscli.analysis.correlate import assign, correlation, inverse_root, mean
from basiscli.analysis.moments import Moments

# Of correlation matrices from float32 products: a direction with less than this part of a unit's variance is rounding.
RANK_TOLERANCE = 1e-5
SVCCA_VARIANCE = 0.99
# A direction with less than this part of a unit's mean variance is constant: the remaining variance is rounding.
SILENT = 1e-6
# The largest assignment that soft matching solves (0.3 s) instead of a linear programme (up to 5 s).
COPIES = 2048


def cka(m: Moments) -> float | None:
    """Linear CKA: |S_AB|² / (|S_AA| |S_BB|), Frobenius norms (Kornblith et al. 2019)."""
    scale = np.linalg.norm(m.own[0]) * np.linalg.norm(m.own[1])
    return float(np.linalg.norm(m.cross[0, 1]) ** 2 / scale) if scale else None


def cka_debiased(m: Moments) -> float | None:
    """Linear CKA of unbiased estimates of HSIC (Song et al. 2012): 0 in the mean of independent layers.

    HSIC_ab N (N-3) = |S_AB|² - f_ab N/(N-2) + tr S_AA tr S_BB / ((N-1)(N-2)), f_ab = Σ |x_a|² |x_b|² over rows about
    their means. None for fewer than four rows, or where HSIC_aa or HSIC_bb is not above 0. Needs `m.norms`.
    """
    n = m.rows
    if n < 4:
        return None
    if m.norms is None:
        raise ValueError("debiased CKA needs moments with norms")
    fourth = m.norms.fourth
    traces = [m.variances(k).sum() for k in (0, 1)]

    def hsic(i: int, j: int) -> float:
        size = np.linalg.norm(m.product(i, j)) ** 2
        return size - fourth[i, j] * n / (n - 2) + traces[i] * traces[j] / ((n - 1) * (n - 2))

    own = hsic(0, 0), hsic(1, 1)
    return float(hsic(0, 1) / np.sqrt(own[0] * own[1])) if min(own) > 0 else None


def procrustes(m: Moments) -> float | None:
    """Orthogonal Procrustes: |S_AB|_* / √(tr S_AA tr S_BB), nuclear norm; 1 - d²/2 of matrices of norm 1."""
    scale = np.sqrt(m.variances(0).sum() * m.variances(1).sum())
    return float(np.linalg.svd(m.cross[0, 1], compute_uv=False).sum() / scale) if scale else None


def cca(m: Moments) -> float | None:
    """Mean canonical correlation over the smaller rank (Hotelling 1936)."""
    return _mean_canonical(m, [_whitening(m, k) for k in (0, 1)])


def svcca(m: Moments) -> float | None:
    """Mean canonical correlation of the principal components that hold 99 % of the variance (Raghu et al. 2017)."""
    return _mean_canonical(m, [_principal(m, k) for k in (0, 1)])


def pwcca(m: Moments) -> float | None:
    """Canonical correlations weighted by what their variates contribute to the layer (Morcos et al. 2018).

    Σ α_i ρ_i / Σ α_i with α_i = Σ_j |<h_i, x_j>|, h_i the variates and x_j the units of A; then of B; the mean of both.
    """
    maps = [_whitening(m, k) for k in (0, 1)]
    if _undefined(m, maps):
        return None
    left, rho, right = np.linalg.svd(maps[0].T @ m.cross[0, 1] @ maps[1], full_matrices=False)
    rho = np.minimum(rho, 1)
    both = []
    for k, variates in ((0, left), (1, right.T)):
        weight = np.abs((maps[k] @ variates).T @ m.own[k]).sum(axis=1)
        both.append(weight @ rho / weight.sum())
    return float(np.mean(both))


def soft_matching(m: Moments) -> float | None:
    """Optimal transport of units: max Σ T_ij r_ij (Khosla and Williams 2024).

    T ≥ 0, its rows add up to 1/U_a, its columns to 1/U_b. Of equal widths it is the matched correlation. None if all
    units of a network are dead.
    """
    if not all(m.variances(k).any() for k in (0, 1)):
        return None
    return _transport(correlation(m))


def aligned_held_out(halves: Sequence[Moments], drop_dead: bool = False) -> float | None:
    """Mean r_ii of A and B Q on one half, Q the best orthogonal map of the other half; both ways averaged.

    Q (U_b, U_a) maximises tr(S_AB Q) over matrices with orthonormal columns; where B is the narrower, A is mapped to B.
    As in held-out matching, a unit that is constant on one half only counts 0, unless its partner in B Q is constant
    there as well.
    """
    if len(halves) < 2:
        return None
    if len(halves[0].means[0]) > len(halves[0].means[1]):
        halves = [_swapped(half) for half in halves]
    constant = [half.variances(0) == 0 for half in halves]
    dead = constant[0] & constant[1]
    scores = []
    for fit, score in ((0, 1), (1, 0)):
        left, _, right = np.linalg.svd(halves[fit].cross[0, 1], full_matrices=False)
        q = right.T @ left.T
        turned = [np.maximum(np.einsum("bi,bi->i", q, half.own[1] @ q), 0) for half in halves]
        silent = [v <= SILENT * half.variances(1).mean() for v, half in zip(turned, halves, strict=True)]
        left_out = ((constant[0] & silent[0]) | (constant[1] & silent[1])) & ~dead
        scale = inverse_root(halves[score].variances(0)) * inverse_root(turned[score])
        # Where Q is found, a constant unit leaves its column of Q arbitrary, so the unit counts 0.
        scale[constant[fit]] = 0
        r = np.clip(np.einsum("ib,bi->i", halves[score].cross[0, 1], q) * scale, -1, 1)
        scores.append(r[~(left_out | (dead & drop_dead))])
    return mean(np.concatenate(scores))


def _swapped(m: Moments) -> Moments:
    return Moments(m.rows, m.means[::-1], m.own[::-1], {(0, 1): m.cross[0, 1].T})


def _whitening(m: Moments, k: int) -> np.ndarray:
    """Return W (U, rank) with Wᵀ S W = 1, from the correlations, so that small units count as much as large ones."""
    scale = inverse_root(m.variances(k))
    values, vectors = np.linalg.eigh(m.own[k] * scale[:, None] * scale)
    kept = values > RANK_TOLERANCE
    return scale[:, None] * vectors[:, kept] / np.sqrt(values[kept])


def _principal(m: Moments, k: int) -> np.ndarray:
    """Return W (U, components) with Wᵀ S W = 1, for the fewest principal components that hold 99 % of the variance."""
    values, vectors = np.linalg.eigh(m.own[k])
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    total = values.sum()
    if not total:
        return vectors[:, :0]
    count = int(np.searchsorted(np.cumsum(values), SVCCA_VARIANCE * total)) + 1
    return vectors[:, :count] / np.sqrt(values[:count])


def _undefined(m: Moments, maps: Sequence[np.ndarray]) -> bool:
    """Whether no direction is left, or there are so many that some canonical correlations are 1 for lack of rows."""
    ranks = [w.shape[1] for w in maps]
    return not all(ranks) or sum(ranks) > m.rows - 1


def _mean_canonical(m: Moments, maps: Sequence[np.ndarray]) -> float | None:
    if _undefined(m, maps):
        return None
    rho = np.linalg.svd(maps[0].T @ m.cross[0, 1] @ maps[1], compute_uv=False)
    return float(np.minimum(rho, 1).mean())


def _transport(r: np.ndarray) -> float | None:
    """Return max Σ T_ij r_ij of the transport polytope with uniform marginals."""
    rows, columns = r.shape
    if not r.size:
        return None
    size = lcm(rows, columns)
    if size <= max(COPIES, rows, columns):
        # An optimal vertex is a matching of copies: size / rows of each row with size / columns of each column.
        copied = np.repeat(np.repeat(r, size // rows, axis=0), size // columns, axis=1)
        return float(copied[assign(copied)].mean())
    from scipy.optimize import linprog  # takes half a second to import
    from scipy.sparse import identity, kron, vstack

    sums_of_rows = kron(identity(rows), np.ones((1, columns)), format="csr")
    sums_of_columns = kron(np.ones((1, rows)), identity(columns), format="csr")
    marginals = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    solution = linprog(-r.ravel(), A_eq=vstack([sums_of_rows, sums_of_columns]), b_eq=marginals, method="highs-ipm")
    return float(-solution.fun)


@dataclass(frozen=True)
class Similarity:
    """A similarity of layers, with its range, invariance and source; it is higher for layers that are more alike."""

    function: Callable[[Moments], float | None]
    range: str
    invariant_to: str
    source: str


# Similarities that ignore rotations: the shuffled null says what chance gives. (Soft matching has that of `matched`.)
OF_SPACES = ("cka", "cca", "svcca", "pwcca", "procrustes")
ROTATION = "rotation of the units, one scale for all"
ANY_MAP = "any invertible linear map of the units"
SIMILARITIES = {
    "cka": Similarity(cka, "0 to 1", ROTATION, "Kornblith et al. 2019"),
    "cca": Similarity(cca, "0 to 1", ANY_MAP, "Hotelling 1936"),
    "svcca": Similarity(svcca, "0 to 1", ROTATION, "Raghu et al. 2017"),
    "pwcca": Similarity(pwcca, "0 to 1", "permutation of the units, one scale for all", "Morcos et al. 2018"),
    "procrustes": Similarity(procrustes, "0 to 1", ROTATION, "Schönemann 1966"),
    "soft-matching": Similarity(
        soft_matching, "-1 to 1", "permutation, positive scale of each unit", "Khosla and Williams 2024"
    ),
}
