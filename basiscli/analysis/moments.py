"""One pass over activations: counts, means and second moments, of which every similarity in the suite is a function.

K networks, N rows (samples, or samples times positions), U_k units of network k. Memory is O(U²), whatever N.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from basiscli.analysis.norms import Norms
from basiscli.rng import generator

PARTS = 6  # of the samples, see `parts`


@dataclass(frozen=True)
class Moments:
    """Moments of one layer of K networks over the same N rows; `+` merges two sets of rows.

    rows:        N
    means[k]:    (U_k,), m_k = Σ x_k / N
    own[k]:      (U_k, U_k), S_kk = Σ (x_k - m_k)(x_k - m_k)ᵀ; or only its diagonal (U_k,)
    cross[i, j]: (U_i, U_j), S_ij = Σ (x_i - m_i)(x_j - m_j)ᵀ, for i < j, or only for some of these pairs
    norms:       sums with the squared norms of rows about the means, or None
    """

    rows: int
    means: tuple[np.ndarray, ...]
    own: tuple[np.ndarray, ...]
    cross: dict[tuple[int, int], np.ndarray]
    norms: Norms | None = None

    def __add__(self, other: "Moments") -> "Moments":
        """Merge by Chan, Golub and LeVeque (1979): S = S₁ + S₂ + (N₁N₂/N) d dᵀ, where d = m₂ - m₁."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        rows = self.rows + other.rows
        weight = self.rows * other.rows / rows
        shifts = [theirs - mine for mine, theirs in zip(self.means, other.means, strict=True)]
        means = tuple(mine + d * (other.rows / rows) for mine, d in zip(self.means, shifts, strict=True))
        own = tuple(
            mine + theirs + weight * (np.outer(d, d) if mine.ndim == 2 else d * d)
            for mine, theirs, d in zip(self.own, other.own, shifts, strict=True)
        )
        cross = {
            (i, j): self.cross[i, j] + other.cross[i, j] + weight * np.outer(shifts[i], shifts[j])
            for i, j in self.cross
        }
        norms = None
        if self.norms and other.norms:
            norms = self._about(self.norms, means) + other._about(other.norms, means)
        return Moments(rows, means, own, cross, norms)

    def variances(self, k: int) -> np.ndarray:
        """Return N times the variance of each unit of network k, (U_k,); exactly 0 for a constant unit."""
        own = self.own[k]
        return np.maximum(own.diagonal() if own.ndim == 2 else own, 0)

    def pair(self, i: int, j: int) -> "Moments":
        """Return the moments of networks i ≤ j alone, as networks 0 and 1. i = j needs the full second moments."""
        cross = self.own[i] if i == j else self.cross[i, j]
        norms = self.norms and self.norms.pair(i, j)
        return Moments(self.rows, (self.means[i], self.means[j]), (self.own[i], self.own[j]), {(0, 1): cross}, norms)

    def alone(self, networks: Sequence[int]) -> "Moments":
        """Return the moments of some networks without their products with each other."""
        means, own = (tuple(tables[k] for k in networks) for tables in (self.means, self.own))
        return Moments(self.rows, means, own, {})

    def product(self, i: int, j: int) -> np.ndarray:
        """Return S_ij (U_i, U_j) for any i and j whose products were added up."""
        if i == j:
            return self.own[i]
        return self.cross[i, j] if i < j else self.cross[j, i].T

    def _about(self, norms: Norms, centres: Sequence[np.ndarray]) -> Norms:
        """Return sums about the means as sums about other centres."""
        shifts = [centre - mean for centre, mean in zip(centres, self.means, strict=True)]
        return norms.about(shifts, self.rows, [np.zeros_like(d) for d in shifts], self.product, self.cross)

    def units(self, *kept: np.ndarray) -> "Moments":
        """Return the moments of some units only, without norms; kept: by network, numbers of units or a mask."""
        chosen = [np.arange(len(mean))[units] for mean, units in zip(self.means, kept, strict=True)]
        means = tuple(mean[units] for mean, units in zip(self.means, chosen, strict=True))
        own = tuple(
            s[np.ix_(units, units)] if s.ndim == 2 else s[units] for s, units in zip(self.own, chosen, strict=True)
        )
        cross = {(i, j): s[np.ix_(chosen[i], chosen[j])] for (i, j), s in self.cross.items()}
        return Moments(self.rows, means, own, cross)

    def scaled(self, *scales: np.ndarray | float) -> "Moments":
        """Return the moments of x_k times scales[k], a number or (U_k,) for each network k; without norms."""
        means = tuple(mean * scale for mean, scale in zip(self.means, scales, strict=True))
        own = tuple(
            s * scale * np.reshape(scale, (-1, 1)) if s.ndim == 2 else s * scale * scale
            for s, scale in zip(self.own, scales, strict=True)
        )
        cross = {(i, j): s * np.reshape(scales[i], (-1, 1)) * scales[j] for (i, j), s in self.cross.items()}
        return Moments(self.rows, means, own, cross)


def merge(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all rows of the parts together."""
    return reduce(add, parts)


def halves(samples: int, copies: int, seed: int) -> np.ndarray:
    """Return which samples belong to the second of two random halves, (samples,) bool.

    All copies of an original image (sample s shows image s // copies) fall in the same half.
    """
    return parts(samples, copies, seed) >= PARTS // 2


def parts(samples: int, copies: int, seed: int) -> np.ndarray:
    """Return which of six parts each sample belongs to, (samples,): ¼, ¼ and ½ of each of two halves.

    Parts 0 to 2 are the first half, 3 to 5 the second; all copies of an original image fall in the same part.
    """
    images = -(-samples // copies)
    part = np.empty(images, dtype=np.int64)
    order = generator(seed, "halves").permutation(images)
    for first, half in ((PARTS // 2, order[: images // 2]), (0, order[images // 2 :])):
        for k, members in enumerate(np.split(half, [len(half) // 4, len(half) // 2])):
            part[members] = first + k
    return np.repeat(part, copies)[:samples]
