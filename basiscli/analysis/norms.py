"""Sums with the squared norms of rows. Debiased CKA needs them; they come from the same pass as the moments.

K networks, N rows, U_k units. x_k are the rows of network k and |x_k|² their squared norms.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from basiscli.device import placement


@dataclass(frozen=True)
class Norms:
    """Sums over rows x about a centre. The second moments beside them are about the same centre.

    third[i]: (U_i, K), Σ x_i |x_j|² in column j
    fourth:   (K, K), Σ |x_i|² |x_j|²
    """

    third: tuple[np.ndarray, ...]
    fourth: np.ndarray

    @classmethod
    def zero(cls, like, units: Sequence[int]) -> "Norms":
        """Return sums of no rows, in float64, on the device of `like`."""
        count = len(units)
        third = tuple(np.zeros_like(like, np.float64, shape=(u, count)) for u in units)
        return cls(third, np.zeros_like(like, np.float64, shape=(count, count)))

    def add(self, tables: Sequence, product: Callable) -> None:
        """Add rows, (n, U_k) float32 for each network; product(x, y) returns xᵀy."""
        norms = [(x * x).sum(axis=1) for x in tables]
        for j, norm in enumerate(norms):
            for i, x in enumerate(tables):
                self.third[i][:, j] += product(x, norm.reshape(-1, 1))[:, 0]
                self.fourth[i, j] += (norms[i] * norm).sum(dtype=np.float64)

    def __add__(self, other: "Norms") -> "Norms":
        """Merge two sets of rows with one centre."""
        third = tuple(mine + theirs for mine, theirs in zip(self.third, other.third, strict=True))
        return Norms(third, self.fourth + other.fourth)

    def pair(self, i: int, j: int) -> "Norms":
        """Return the sums of networks i and j alone, as networks 0 and 1."""
        kept = [i, j]
        return Norms((self.third[i][:, kept], self.third[j][:, kept]), self.fourth[np.ix_(kept, kept)])

    def host(self) -> "Norms":
        """Return the same sums on the host."""
        return Norms(tuple(map(placement.to_host, self.third)), placement.to_host(self.fourth))

    def about(
        self,
        shifts: Sequence[np.ndarray],
        rows: int,
        sums: Sequence[np.ndarray],
        product: Callable,
        pairs: Collection[tuple[int, int]],
    ) -> "Norms":
        """Return the sums of the rows x_k - shifts[k]; those of other pairs than `pairs` are of no use afterwards.

        sums[k]: Σ x_k; product(i, j): Σ x_i x_jᵀ of the pairs and of each network with itself, both about the old
        centre. It follows from |x - d|² = |x|² - 2 d·x + |d|².
        """
        squares = [float(np.trace(product(k, k))) for k in range(len(sums))]
        sizes = [float(d @ d) for d in shifts]
        along = [float(d @ s) for d, s in zip(shifts, sums, strict=True)]
        third, fourth = [t.copy() for t in self.third], self.fourth.copy()
        for i, j in {*((k, k) for k in range(len(sums))), *pairs, *((j, i) for i, j in pairs)}:
            d, e, p = shifts[i], shifts[j], product(i, j)
            third[i][:, j] += sums[i] * sizes[j] - 2 * p @ e - d * (squares[j] - 2 * along[j] + rows * sizes[j])
            mixed = e @ self.third[j][:, i] + d @ self.third[i][:, j] + sizes[j] * along[i] + sizes[i] * along[j]
            fourth[i, j] += squares[i] * sizes[j] + squares[j] * sizes[i] + rows * sizes[i] * sizes[j]
            fourth[i, j] += 4 * d @ p @ e - 2 * mixed
        return Norms(tuple(third), fourth)
