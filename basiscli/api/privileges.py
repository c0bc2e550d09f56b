"""How privileged the axes of one array are: the function and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from basiscli.analysis import measures
from basiscli.analysis.measures import Activations, require_whole
from basiscli.analysis.privilege import STANDARDISED, LayerPrivilege, Space, ending, layer_privileges
from basiscli.api.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The scores of a space that a table shows, by their names in a record.
SHOWN = (
    "kurtosis", "rotated_kurtosis", "privilege", "sparseness", "rotated_sparseness", "sparseness_privilege",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Privilege:
    """How privileged the axes of an array are: the result of `privilege`.

    name:    of the array, in tables and figures
    units:   the number of units. dead: those that are constant, and left out. rows: samples times positions
    scores:  every field of the record that `basiscli privilege` prints, by its name there (docs/metrics.md)

    >>> import numpy as np, basiscli
    >>> x = np.random.default_rng(0).laplace(size=(2000, 4))
    >>> result = basiscli.privilege(x)
    >>> result.kurtosis.shape, result.rotated_kurtosis.shape
    ((4,), (10, 4))
    """

    name: str
    units: int
    dead: int
    rows: int
    scores: Mapping[str, float | None]
    _spaces: Mapping[str, Space] = field(repr=False)

    @property
    def privilege(self) -> float | None:
        """Mean excess kurtosis of the units minus that of rotated axes, units standardised; 0 without privilege."""
        return self.scores["privilege"]

    @property
    def sparseness_privilege(self) -> float | None:
        """Mean sparseness of the units minus that of rotated axes, units standardised; 0 without privilege."""
        return self.scores["sparseness_privilege"]

    @property
    def second_moment_privilege(self) -> float | None:
        """1 - T / (T of rotated axes), T the root mean square correlation of two units; at most 1."""
        return self.scores["second_moment_privilege"]

    @property
    def kurtosis(self) -> NDArray[np.float64]:
        """(units,), the excess kurtosis of each unit; NaN where it is constant."""
        return self._spaces[STANDARDISED].kurtosis

    @property
    def rotated_kurtosis(self) -> NDArray[np.float64]:
        """(draws, units), that of the rotated axes of the standardised units."""
        return self._spaces[STANDARDISED].rotated_kurtosis

    def table(self) -> Table:
        """Return a row for each space: kurtosis and sparseness of units and of rotated axes, and their difference."""
        return Table(
            tuple(
                {"space": space} | {name.replace("_", " "): self.scores[f"{name}{ending(space)}"] for name in SHOWN}
                for space in self._spaces
            )
        )

    def plot(self) -> "Figure":
        """Return a figure: the kurtosis of every unit beside that of the rotated axes."""
        from basiscli.plots.privilege import Strip, privilege_figure

        return privilege_figure([Strip(self.name, self.kurtosis, self.rotated_kurtosis)], self.name)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._title())}</p>{self.table()._repr_html_()}"

    def _title(self) -> str:
        dead = f", {self.dead} constant" if self.dead else ""
        return f"{self.name}: {self.units} units{dead}, {self.rows} rows"


def privilege(
    x: Activations,
    draws: int = 10,
    *,
    whiten: bool = False,
    seed: int = 0,
    positions: str | int = "all",
    name: str = "x",
) -> Privilege:
    """Return how privileged the axes of an array are: the kurtosis of its units beside that of rotated axes.

    The score is mean_i k_i - mean k of the units of X Q, k = m₄ / m₂² - 3 the excess kurtosis and Q Haar matrices over
    the standardised units. It is 0 where the axes are like any others of the space (Gaussian or rotated units), above 0
    where units are sparser. After a ReLU it is far above 0 even without training: measure before the nonlinearity, or
    beside an untrained network. These are the numbers of `basiscli privilege` on the same array in a file.

    x:         (samples, ..., units), real numbers, as `correlate` takes them. It is read once, in chunks, and never
               held whole; memory is O(units² + draws · units).
    draws:     rotations, 1 or more
    whiten:    also after whitening the units (ZCA-cor), which leaves no second-order effect; reads x a second time
    seed:      of the rotations, 0 or more
    positions: the rows of a convolution: "all" positions, their "mean", or a number of positions, drawn once
    name:      of the array, for tables and figures

    Raises BadInput, a ValueError that names the parameter, if x is no such array, is constant, holds values that are
    NaN or infinite, or has no more rows than units where it is to be whitened.

    Source: after Elhage et al. 2023, "Privileged Bases in the Transformer Residual Stream" (kurtosis); Treves and Rolls
    1991 (sparseness); rotations of standardised units are ours (docs/metrics.md).

    >>> import numpy as np, basiscli
    >>> rng = np.random.default_rng(0)
    >>> x = rng.laplace(size=(20000, 16))
    >>> result = basiscli.privilege(x)
    >>> round(result.privilege, 1)
    2.6
    >>> turn, _ = np.linalg.qr(rng.standard_normal((16, 16)))
    >>> abs(basiscli.privilege(x @ turn).privilege) < 0.1
    True
    """
    require_whole("draws", draws, 1)
    require_whole("seed", seed, 0)
    measures.require_positions(positions)
    source = measures.source(x, "x")
    (result,) = layer_privileges(source, int(draws), int(seed), positions, whiten)
    return privilege_of(result, name)


def privilege_of(result: LayerPrivilege, name: str) -> Privilege:
    """Return the result of one layer."""
    scores = result.fields | result.scores
    return Privilege(name, result.units, result.dead, result.rows, scores, result.spaces)
