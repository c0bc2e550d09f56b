"""Which units do several arrays share? The function and its result."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from basiscli.analysis import measures
from basiscli.analysis.measures import Activations, require_whole
from basiscli.analysis.passes import Reading, layer_moments
from basiscli.analysis.universality import FALSE_DISCOVERIES, Cycles, UnitScores
from basiscli.analysis.universality import cycles as cycles_of
from basiscli.analysis.universality import universality as scores_of
from basiscli.api.tables import Table
from basiscli.errors import BadInput


@dataclass(frozen=True, eq=False, repr=False)
class Universality:
    """Which units several arrays share: the result of `universality`. Lists have an entry an array, in their order.

    names: of the arrays, for tables. rate: of false discoveries among universal units

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).standard_normal((400, 12))
    >>> result = basiscli.universality([x, x[:, ::-1], x[:, ::-1]], draws=20)
    >>> result.partners[0][0], [int(found.sum()) for found in result.universal]
    (array([11, 10,  9,  8,  7,  6,  5,  4,  3,  2,  1,  0]), [12, 12, 12])
    >>> result.cycles
    1.0
    """

    names: tuple[str, ...]
    rate: float
    _scores: tuple[UnitScores, ...]
    _cycles: Cycles | None

    @property
    def universality(self) -> list[NDArray[np.float64]]:
        """(units,) each: the mean over the other arrays of max_j r_ij, held out; in [-1, 1], 0 for constant units."""
        return [scores.universality for scores in self._scores]

    @property
    def null(self) -> list[NDArray[np.float64]]:
        """(units,) each: the same beside rotated arrays, the mean over draws."""
        return [scores.null for scores in self._scores]

    @property
    def excess(self) -> list[NDArray[np.float64]]:
        """(units,) each: `universality` - `null`; 0 for a unit no nearer to the others' axes than to any axes."""
        return [scores.excess for scores in self._scores]

    @property
    def q(self) -> list[NDArray[np.float64]]:
        """(units,) each: the smallest rate of false discoveries at which a unit is universal."""
        return [scores.q for scores in self._scores]

    @property
    def universal(self) -> list[NDArray[np.bool_]]:
        """(units,) each: whether a unit is universal."""
        return [scores.universal(self.rate) for scores in self._scores]

    @property
    def partners(self) -> list[NDArray[np.intp]]:
        """(arrays - 1, units) each: the best partner of each unit in each of the other arrays, in their order."""
        return [scores.partners for scores in self._scores]

    @property
    def cycles(self) -> float | None:
        """P(π_bc(π_ab(i)) = π_ac(i)) over triples of arrays, π one-to-one partners; None for two arrays."""
        return None if self._cycles is None else self._cycles.estimate.value

    @property
    def cycles_null(self) -> float | None:
        """The same of rotated arrays, the mean over draws; None for two arrays."""
        return None if self._cycles is None else float(self._cycles.draws.mean())

    def table(self) -> Table:
        """Return a row for each array: its units, how many are universal, and the means over units."""
        return Table(
            tuple(
                {
                    "array": name,
                    "units": len(scores.dead),
                    "constant": int(scores.dead.sum()),
                    "universal": int(scores.universal(self.rate).sum()),
                    "universality": float(scores.universality.mean()),
                    "rotated null": float(scores.null.mean()),
                    "stable partners": float(scores.stable.mean()),
                }
                for name, scores in zip(self.names, self._scores, strict=True)
            )
        )

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def universality(
    arrays: Sequence[Activations],
    *,
    draws: int = 100,
    seed: int = 0,
    rate: float = FALSE_DISCOVERIES,
    groups: ArrayLike | None = None,
    positions: str | int = "all",
    names: Sequence[str] | None = None,
) -> Universality:
    """Return which units of several arrays have a partner in every other array.

    u_i = mean over the other arrays of max_j r_ij, j chosen on one half of the samples and r taken from the other, both
    ways averaged. The null rotates the others (units standardised). A unit is universal if u_i stands out of its null,
    at a rate of false discoveries among all units of its array (Benjamini and Hochberg). These are the numbers of
    `basiscli correlate` for units and for cycles.

    arrays: two or more, each as `correlate` takes them; three or more for cycles
    draws:  of the null, 2 or more
    rate:   of false discoveries, in (0, 1]

    The other parameters are those of `pairwise`. Raises BadInput, with arrays[k], as `correlate` does.

    Source: after Gurnee et al. 2024, "Universal Neurons in GPT2 Language Models"; held out, the rotated null and cycles
    are ours (docs/metrics.md).

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.laplace(size=(1000, 2))
    >>> xs = [np.hstack([shared, rng.standard_normal((1000, 6))]) for _ in range(3)]
    >>> basiscli.universality(xs, draws=30).universal[0].tolist()
    [True, True, False, False, False, False, False, False]
    """
    arrays = list(arrays)
    if len(arrays) < 2:
        raise BadInput(f"`arrays` holds {len(arrays)}: give two or more")
    require_whole("draws", draws, 2)
    require_whole("seed", seed, 0)
    measures.require_positions(positions)
    if not 0 < rate <= 1:
        raise BadInput(f"`rate` is {rate!r}: give a part from 0 to 1, such as 0.05")
    opened = measures.sources(arrays, [f"arrays[{k}]" for k in range(len(arrays))], groups)
    called = measures.named([f"x{k}" for k in range(len(arrays))] if names is None else names, len(arrays))
    (layer,) = layer_moments(opened, Reading(seed, full=True, positions=positions, memory=sys.maxsize))
    closed = cycles_of(layer, draws, seed) if len(arrays) > 2 else None
    return Universality(called, rate, tuple(scores_of(layer, draws, seed)), closed)
