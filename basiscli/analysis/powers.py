"""One pass over activations for sums of powers: of the units, of rotated axes, and the products of the units.

U units, N rows. A rotated axis is x·q for a column q of a Haar matrix Q. Memory is O(U² + draws · U), whatever N.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from basiscli import kernels
from basiscli.analysis.chunks import take_positions
from basiscli.analysis.random_maps import haar
from basiscli.device import placement
from basiscli.device.threads import blas
from basiscli.rng import generator

# Samples that set each unit's shift and scale before the pass, from so many places of the data.
LOOKED, PLACES = 2048, 16
MOST_LOOKED = 1 << 16  # rows, where a sample has many positions
# Rows that are multiplied at once: about BLOCK_BYTES of them, and no more than BLOCK_ROWS.
BLOCK_BYTES, BLOCK_ROWS = 32 << 20, 4096
WHITENED_ROWS = 512  # rows of a part that is whitened at once
# The columns of a product: small layers are rotated by several draws at once.
COLUMNS = 512
# A draw's axes of the raw space. Their mean is that of all axes but for noise; all of them would double the time.
RAW_AXES = 32
# Draws have Haar matrices of their own up to so many values; beyond, they share one, see `rotation`.
BASES = 1 << 20
# Rotations are kept during the pass up to so many values; beyond, they are made anew for each block.
KEPT = 1 << 24


@dataclass(frozen=True)
class Look:
    """What rows are taken relative to: (x - shift) · scale, (U,) each. The shift has the type of the rows."""

    shift: np.ndarray
    scale: np.ndarray


def look(source, layers: list[str], positions: str | int, seed: int) -> dict[str, Look]:
    """Return mean and 1 / deviation of each layer's units over a few samples, from PLACES places of a source."""
    samples = source.samples[layers[0]]
    length = LOOKED // PLACES
    starts = [0] if samples <= LOOKED else np.linspace(0, samples - length, PLACES).astype(int).tolist()
    pieces = [source.read(layers, start, samples if samples <= LOOKED else start + length) for start in starts]
    looks = {}
    for layer in layers:
        tables = [take_positions(piece[layer], positions, seed) for piece in pieces]
        rows = np.concatenate([placement.to_host(table).reshape(-1, table.shape[-1]) for table in tables])
        looks[layer] = _look(rows[:: max(1, len(rows) // MOST_LOOKED)])
    return looks


def _look(table: np.ndarray) -> Look:
    """Return the look of rows (n, U). A unit that is constant in them gets the median scale of the others."""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(table).max(axis=0)
        factor = np.where(np.isfinite(largest) & (largest > 0), largest, 1)  # squares of large float64 would overflow
        part = table / factor
        mean, deviation = (moment(part, axis=0, dtype=np.float64) * factor for moment in (np.mean, np.std))
        constant = (table == table[0]).all(axis=0)
    known = np.isfinite(deviation) & (deviation > 0) & ~constant
    usual = float(np.median(deviation[known])) if known.any() else 1.0
    shift = np.where(constant, table[0], mean)
    shift = np.where(np.isfinite(shift), shift, 0).astype(table.dtype)
    return Look(placement.to_device(shift), 1 / np.where(known, deviation, usual))


def rotation(units: int, seed: int, draw: int) -> np.ndarray:
    """Return the Haar matrix (U, U) of a draw, float32.

    Small matrices are independent. Of large ones, whose QR would take as long as a pass over the data, draw k is P_k Q:
    P_k is a random signed permutation and Q one of a few Haar matrices. Each P_k Q is Haar, so means over draws are
    right; the draws spread less than independent ones.
    """
    bases = max(1, BASES // units**2)
    rng = generator(seed, "axes", units, draw)
    order, signs = rng.permutation(units), rng.choice(np.array([-1, 1], np.float32), units)
    return _base(units, seed, draw % bases)[order] * signs[:, None]


@lru_cache(maxsize=16)
def _base(units: int, seed: int, number: int) -> np.ndarray:
    with blas().limit(limits=1):  # a second thread gains nothing here, and on a busy machine it costs
        return haar(generator(seed, "axes", units, "base", number), units, np.float32)


class PowerSums:
    """Adds up the powers of one layer's units and of its rotated axes, chunk by chunk.

    Rows are taken relative to a look, so that products fit float32 and a large mean costs no precision; no kurtosis
    depends on it. They wait in blocks whose size depends on the units alone, so chunks do not change a bit. Products
    are float32, their sums float64.

    whitening: (U, U), rows are multiplied by it first; the products of the units and raw axes are then left out.
    spread: a function like `map` for the work on a block, such as that of `threads.side_by_side`.

    own:          (5, U), Σ y, Σ y², Σ y³, Σ y⁴ and Σ |y| of rows y
    raw_own:      (5, U), the same but Σ |y + c|, where y + c is proportional to the activation itself
    rotated:      (draws, 5, U), as own, of the axes of y
    raw_rotated:  (draws, 5, A), as raw_own, of A axes of the activations x
    raw_offset:   (U,), the c of the units; raw_offsets (draws, A): those of the axes
    products:     (U, U), Σ y yᵀ
    """

    def __init__(
        self, origin: Look, draws: int, seed: int, whitening: np.ndarray | None = None, spread: Callable = map
    ) -> None:
        units = self.units = len(origin.scale)
        self.look, self.draws, self.seed = origin, draws, seed
        self.rows = self.not_finite = self._waiting = 0
        self._scale = placement.to_device(origin.scale.astype(origin.shift.dtype))
        self._whitening, self._spread = whitening, spread
        shape = max(256, min(BLOCK_ROWS, BLOCK_BYTES // (4 * units))), units
        self._block = np.empty_like(origin.shift, np.float32, shape=shape)
        self._products = np.zeros_like(origin.shift, np.float64, shape=(units, units) if whitening is None else (0, 0))
        self.own, self.raw_own = np.zeros((5, units)), np.zeros((5, units))
        axes = min(units, RAW_AXES) if whitening is None else 0
        self.rotated, self.raw_rotated = np.zeros((draws, 5, units)), np.zeros((draws, 5, axes))
        per_product = max(1, COLUMNS // units)
        self._groups = [range(k, min(k + per_product, draws)) for k in range(0, draws, per_product)]
        self._kept: dict[int, np.ndarray] = {}
        self._raw_map, self.raw_offset, self.raw_offsets = self._raw_axes(axes)

    @property
    def products(self) -> np.ndarray:
        """Σ y yᵀ on the host."""
        return placement.to_host(self._products)

    def add(self, chunk: np.ndarray) -> None:
        """Add a chunk (n, ..., U), float32 or float64."""
        table = chunk.reshape(-1, self.units)
        first = 0
        while first < len(table):
            last = min(len(table), first + len(self._block) - self._waiting)
            with np.errstate(invalid="ignore", over="ignore"):
                shifted = table[first:last] - self.look.shift
                shifted *= self._scale
                self._block[self._waiting : self._waiting + last - first] = shifted
            self._waiting += last - first
            if self._waiting == len(self._block):
                self.finish()
            first = last

    def finish(self) -> None:
        """Add the rows that still wait."""
        y, self._waiting = self._block[: self._waiting], 0
        if not len(y):
            return
        self.rows += len(y)
        if self._whitening is not None:
            parts = [y[first : first + WHITENED_ROWS] for first in range(0, len(y), WHITENED_ROWS)]
            y = np.concatenate(list(self._spread(partial(_product, w=self._whitening), parts)))
        rotations = [partial(self._add_rotated, y, group) for group in self._groups]
        tasks = [*rotations, partial(self._add_products, y), partial(self._add_raw, y), partial(self._add_own, y)]
        list(self._spread(_call, tasks))

    def _add_own(self, y: np.ndarray) -> None:
        own = _power_sums(y)
        if not np.isfinite(own[0]).all():
            self.not_finite += int((~np.isfinite(y)).sum())
        self.own += own

    def _add_rotated(self, y: np.ndarray, group: range) -> None:
        sums = _power_sums(_product(y, self._turn(group))).reshape(5, len(group), self.units)
        self.rotated[group.start : group.stop] += sums.swapaxes(0, 1)

    def _add_products(self, y: np.ndarray) -> None:
        if self._whitening is None:
            self._products += _squared(y)

    def _add_raw(self, y: np.ndarray) -> None:
        if self._whitening is None:
            self.raw_own += _power_sums(y, self.raw_offset)
            sums = _power_sums(_product(y, self._raw_map), self.raw_offsets.ravel())
            self.raw_rotated += sums.reshape(5, self.draws, -1).swapaxes(0, 1)

    def _turn(self, group: range) -> np.ndarray:
        """Return the rotations of a group of draws side by side, (U, draws of the group · U), made or kept."""
        if group.start in self._kept:
            return self._kept[group.start]
        turns = [rotation(self.units, self.seed, draw) for draw in group]
        turn = placement.to_device(np.concatenate(turns, axis=1) if len(turns) > 1 else turns[0])
        if self.draws * self.units**2 <= KEPT:
            self._kept[group.start] = turn
        return turn

    def _raw_axes(self, axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the map (U, draws · A) from rows y to axes of the activations, and what both lack to their mean.

        x = y / scale + shift, so x·q = y·(q / scale) + shift·q; both are divided by the largest deviation.
        """
        shift = placement.to_host(self.look.shift).astype(np.float64)
        size = 1 / self.look.scale
        largest = size.max()
        turns = [rotation(self.units, self.seed, draw)[:, :axes].astype(np.float64) for draw in range(self.draws)]
        turn = np.concatenate(turns, axis=1)
        offsets = (shift / largest) @ turn
        turn = (turn * (size / largest)[:, None]).astype(np.float32)
        return placement.to_device(turn), shift * self.look.scale, offsets.reshape(self.draws, axes)


def _call(task: Callable) -> None:
    with np.errstate(invalid="ignore", over="ignore"):  # counted in not_finite
        task()


def _product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return x w in float32, at every precision of training."""
    if not kernels.on_gpu(x):
        return x @ w
    with kernels.exactly(x):
        return kernels.of(x).dense(x[None], w[None], None)[0]


def _squared(y: np.ndarray) -> np.ndarray:
    """Return yᵀ y in float32, at every precision of training."""
    if not kernels.on_gpu(y):
        return y.T @ y
    with kernels.exactly(y):
        return kernels.of(y).dense_weight_gradient(y[None], y[None])[0]


def _power_sums(y: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    """Return the sums of powers of each column, (5, columns), on the host."""
    offset = np.zeros(y.shape[1]) if offset is None else offset
    moved = placement.to_device(offset.astype(np.float32)[None])
    return placement.to_host(kernels.of(y).power_sums(y[None], moved))[0]
