"""Sums of moments in one pass: rows are shifted, collected in blocks, and multiplied."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from basiscli import kernels
from basiscli.analysis.moments import Moments
from basiscli.analysis.norms import Norms
from basiscli.device import placement
from basiscli.device.threads import blas

# Up to this number of units, over all networks, a product is so small that a second thread gains nothing. Where other
# programs use the cores, waiting for the second thread made products 50 times slower (16 units, OpenBLAS).
ONE_THREAD = 512
SUM_ROWS = 256  # rows added up in float32 before float64 takes over: errors stay below 1e-6
# float32 cannot hold products of units whose deviation is above 2 to this power, or below 1 over it.
LARGEST_EXPONENT = 40
PIECE = 1 << 17  # values copied from a table at a time, so that they stay in the cache
BLOCK_ROWS = 8192  # rows that wait for a product, at most
# Of layers with more units than this, over all networks, no more rows wait than a product needs.
MANY_UNITS = 4096


@dataclass(frozen=True)
class Grain:
    """How rows are cut into sums: run rows make a product, block rows wait for it, piece rows are copied at a time.

    Sums depend on the grain in their last bits. So it follows from all networks of a layer, also where only some of
    them are read together. narrow: whether products take one thread.
    """

    run: int
    block: int
    piece: int
    narrow: bool

    @classmethod
    def of(cls, units: Sequence[int]) -> "Grain":
        """Return the grain of a layer with so many units in each network."""
        # A product costs rows x U², and its addition in float64 U²: a few percent from 4 U rows on. More rows would
        # cost precision in float32.
        run = min(max(4 * max(units), 512), BLOCK_ROWS)
        block = run if sum(units) > MANY_UNITS else BLOCK_ROWS // run * run
        piece = max(PIECE // max(units) // SUM_ROWS, 1) * SUM_ROWS
        return cls(run, block, piece, sum(units) <= ONE_THREAD)


class Accumulator:
    """Adds up the moments of one layer of K networks, chunk by chunk.

    Rows are taken relative to a shift that the first chunk sets, so that a large mean costs no precision and a constant
    unit has a variance of exactly 0. The shift is subtracted in the type of the rows. A unit whose deviation in the
    first chunk is beyond 2^±40 is multiplied by a power of two, so that products fit float32. Rows wait in blocks for
    products in float32; sums of products are float64. If all units of a network are that large or small, the result
    holds the moments of its activations times a power of two. No similarity depends on that factor.

    full:   keep S_kk, not only its diagonal
    spread: a function like `map` that runs over networks, such as the `map` of a thread pool. Copying and summing run
            on one core; beside products on all cores they take a third of the time.
    products: the pairs i < j whose S_ij are kept, as i with a range of j; each becomes one product of matrices. None:
            all pairs
    norms:  keep `Moments.norms`, which needs `full`
    grain:  of the whole layer, if these are some of its networks
    """

    def __init__(
        self,
        networks: int,
        full: bool = False,
        spread: Callable = map,
        products: Sequence[tuple[int, range]] | None = None,
        norms: bool = False,
        grain: Grain | None = None,
    ) -> None:
        self.rows = 0
        self._not_finite = [0] * networks
        self._full = full
        self._with_norms = norms
        self._spread = spread
        self._networks = range(networks)
        self._products = [(i, range(i + 1, networks)) for i in range(networks)] if products is None else products
        self._whole_grain = grain
        self._begun = False
        self._pairs = [(i, j) for i, partners in self._products for j in partners]

    def add(self, chunk: Sequence[np.ndarray], chosen: np.ndarray | None = None) -> None:
        """Add one chunk: for each network k an array (n, ..., U_k), float32 or float64, of the same rows.

        chosen: (n,) bool, the samples to take. Raises ValueError if the networks differ in their number of rows.
        """
        tables = [_floats(x).reshape(-1, x.shape[-1]) for x in chunk]
        if any(len(table) != len(tables[0]) for table in tables):
            raise ValueError(f"networks with different numbers of rows: {[len(table) for table in tables]}")
        rows = np.arange(len(tables[0]))
        if chosen is not None:
            rows = rows[np.repeat(chosen, len(rows) // len(chosen))]
        if len(rows) and not self._begun:
            self.begin([table[rows] for table in tables])
        if kernels.on_gpu(tables[0]):
            if len(rows):
                self._add_on_gpu(tables if chosen is None else [table[rows] for table in tables])
            self.rows += len(rows)
            return
        first = 0
        while first < len(rows):
            last = min(len(rows), first + self._grain.block - self._waiting)
            spread = map if self._grain.narrow else self._spread
            list(spread(partial(self._place, rows[first:last]), self._networks, tables))
            self._waiting += last - first
            if self._waiting == self._grain.block:
                self._add_products()
            first = last
        self.rows += len(rows)

    @property
    def not_finite(self) -> list[int]:
        """NaN or infinite activations seen, for each network."""
        return [int(count) for count in self._not_finite]

    def moments(self) -> Moments:
        """Return the moments of all rows added so far, on the host. The sums become the moments: call it once."""
        if not self.rows:
            raise ValueError("no rows were added")
        if kernels.on_gpu(self._sums[0]):
            return self._brought_back().moments()
        self._add_products()
        with np.errstate(invalid="ignore", over="ignore"):  # counted in not_finite
            means = tuple(map(self._mean, self._networks))
            norms = self._centred_norms() if self._with_norms else None
            own = tuple(self._centred(self._own[k], k, k) for k in self._networks)
            cross = {(i, j): self._centred(self._cross[i, j], i, j) for i, j in self._pairs}
        return Moments(self.rows, means, own, cross, norms)

    def _centred_norms(self) -> Norms:
        sums = [self._unscaled(total, k) for k, total in enumerate(self._sums)]
        own = tuple(self._unscaled_product(table, k, k) for k, table in enumerate(self._own))
        cross = {(i, j): self._unscaled_product(table, i, j) for (i, j), table in self._cross.items()}
        uncentred = Moments(self.rows, tuple(sums), own, cross)
        return self._norms.about([total / self.rows for total in sums], self.rows, sums, uncentred.product, cross)

    def begin(self, chunk: Sequence[np.ndarray]) -> None:
        """Set shifts and scales by a chunk, as `add` takes it; moments to be merged must begin with the same chunk."""
        tables = [_floats(x).reshape(-1, x.shape[-1]) for x in chunk]
        self._begun = True
        units = [table.shape[1] for table in tables]
        self._grain = self._whole_grain or Grain.of(units)
        edges = np.cumsum([0, *units])
        self._columns = [slice(first, last) for first, last in pairwise(edges)]
        self._waiting = 0
        self._shifts, self._factors, self._scales = zip(*map(_origin, tables), strict=True)
        zeros = partial(np.zeros_like, tables[0], np.float64)
        self._sums = [zeros(shape=u) for u in units]
        self._own = [zeros(shape=(u, u) if self._full else u) for u in units]
        self._cross = {(i, j): zeros(shape=(units[i], units[j])) for i, j in self._pairs}
        self._norms = Norms.zero(tables[0], units)
        # On a GPU each chunk is multiplied at once, without a block.
        rows = 0 if kernels.on_gpu(tables[0]) else self._grain.block
        self._block = np.empty((rows, edges[-1]), np.float32)

    def _add_on_gpu(self, tables: list) -> None:
        """Add rows that lie on a GPU at once: products in float32, added up in float64."""
        shifted = [
            (table - shift if factor is None else (table - shift) * placement.to_device(factor)).astype(np.float32)
            for table, shift, factor in zip(tables, self._shifts, self._factors, strict=True)
        ]
        for k, x in enumerate(shifted):
            self._sums[k] += _column_sums(x)
            self._not_finite[k] = self._not_finite[k] + (~np.isfinite(x)).sum()
            if not self._full:
                self._own[k] += _column_sums(x * x)
        for first in range(0, len(shifted[0]), self._grain.run):
            run = [x[first : first + self._grain.run] for x in shifted]
            for k in self._networks if self._full else ():
                self._own[k] += _product(run[k], run[k])
            for i, j in self._pairs:
                self._cross[i, j] += _product(run[i], run[j])
            if self._with_norms:
                self._norms.add(run, _product)

    def _brought_back(self) -> "Accumulator":
        """Return the same sums on the host."""
        on_host = copy(self)
        for name in ("_shifts", "_sums", "_own"):
            setattr(on_host, name, [array.get() for array in getattr(self, name)])
        on_host._cross = {pair: array.get() for pair, array in self._cross.items()}
        on_host._norms = self._norms.host()
        return on_host

    def _place(self, rows: np.ndarray, k: int, table: np.ndarray) -> None:
        """Put shifted rows of network k into its block, and add up the sums that need no product of matrices."""
        with np.errstate(invalid="ignore", over="ignore"):
            for first in range(0, len(rows), self._grain.piece):
                piece = rows[first : first + self._grain.piece]
                start = self._waiting + first
                shifted = np.take(table, piece, axis=0, mode="clip")  # "clip" is faster, and no row is out of range
                shifted -= self._shifts[k]
                if self._factors[k] is not None:
                    shifted = shifted * self._factors[k]
                shifted = shifted.astype(np.float32, copy=False)
                total = _in_runs(_total, SUM_ROWS, shifted)
                if not np.isfinite(total).all():
                    self._not_finite[k] += int(np.count_nonzero(~np.isfinite(table[piece])))
                self._sums[k] += total
                if not self._full:
                    self._own[k] += _in_runs(_squares, SUM_ROWS, shifted)
                self._block[start : start + len(piece), self._columns[k]] = shifted

    def _add_products(self) -> None:
        block = self._block[: self._waiting]
        if not len(block):
            return
        self._waiting = 0
        run = self._grain.run
        threads = blas().limit(limits=1) if self._grain.narrow else nullcontext()
        with threads, np.errstate(invalid="ignore", over="ignore"):
            if self._with_norms:
                tables = [self._unscaled(block[:, columns], k) for k, columns in enumerate(self._columns)]
                self._norms.add(tables, lambda x, y: x.T @ y)
            for i, columns in enumerate(self._columns):
                if self._full:
                    self._own[i] += _in_runs(_outer, run, block[:, columns], block[:, columns])
            for i, partners in self._products:
                if not partners:
                    continue
                # One product with many networks: few large products keep the cores busy, many small do not.
                start = self._columns[partners[0]].start
                several = slice(start, self._columns[partners[-1]].stop)
                products = _in_runs(_outer, run, block[:, self._columns[i]], block[:, several])
                for j in partners:
                    self._cross[i, j] += products[:, self._columns[j].start - start : self._columns[j].stop - start]

    def _mean(self, k: int) -> np.ndarray:
        network = 1.0 if self._scales[k] is None else self._scales[k][0]
        return self._shifts[k] * network + self._unscaled(self._sums[k], k) / self.rows

    def _centred(self, products: np.ndarray, i: int, j: int) -> np.ndarray:
        """S_ij = Σ y_i y_jᵀ - (Σ y_i)(Σ y_j)ᵀ / N, for the shifted rows y, in the place of the products."""
        sums_i, sums_j = self._sums[i], self._sums[j]
        products -= (np.outer(sums_i, sums_j) if products.ndim == 2 else sums_i * sums_j) / self.rows
        return self._unscaled_product(products, i, j)

    def _unscaled(self, values: np.ndarray, k: int) -> np.ndarray:
        """Return values (..., U_k) of network k without the factors of its units, in the type they have."""
        return values if self._scales[k] is None else (values / self._scales[k][1]).astype(values.dtype)

    def _unscaled_product(self, products: np.ndarray, i: int, j: int) -> np.ndarray:
        """Return a table (U_i, U_j), or a diagonal of one, without the factors of the units."""
        products = self._unscaled(products, j)
        return self._unscaled(products.T, i).T if products.ndim == 2 else self._unscaled(products, i)


def _in_runs(function: Callable, run: int, *tables: np.ndarray) -> np.ndarray:
    """Return Σ function(tables) over runs of `run` rows, float64; the function gets stacks (runs, rows, U)."""
    whole = len(tables[0]) // run * run
    stacks = ([x[:whole].reshape(-1, run, x.shape[1]) for x in tables], [x[None, whole:] for x in tables])
    return sum(function(*stack).sum(axis=0, dtype=np.float64) for stack in stacks if stack[0].size)


def _total(x: np.ndarray) -> np.ndarray:
    """Σ x over the rows of each run, (runs, U)."""
    return x.sum(axis=1)


def _squares(x: np.ndarray) -> np.ndarray:
    """Σ x² over the rows of each run, (runs, U)."""
    return np.einsum("rnu,rnu->ru", x, x)


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Σ x yᵀ over the rows of each run, (runs, U_x, U_y)."""
    return x.transpose(0, 2, 1) @ y


def _floats(x: np.ndarray) -> np.ndarray:
    """Return float32 and float64 as they are, all else as float32."""
    if kernels.on_gpu(x):
        return x if x.dtype == np.float64 else x.astype(np.float32, copy=False)
    x = np.asarray(x)
    return x if x.dtype == np.float64 else x.astype(np.float32, copy=False)


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return xᵀ y of (n, U) and (n, V) on a GPU, always in float32, at every precision of training."""
    with kernels.exactly(x):
        return kernels.of(x).dense_weight_gradient(x[None], y[None])[0]


def _column_sums(x: np.ndarray) -> np.ndarray:
    """Return the sum of each column of (n, U) on a GPU; chunks are added up in float64."""
    return kernels.of(x).unit_sums(x[None])[0]


def _origin(
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None, tuple[float, np.ndarray] | None]:
    """Return the shift of each unit, its factor after the shift, and the two parts of the factor: network's and unit's.

    The shift, in the table's type, is the mean of a unit where the mean exceeds the standard deviation, elsewhere 0.
    Elsewhere a shift would gain no precision. It would also turn the zeros of a sparse unit into many small numbers
    that float32 cannot add to the few large ones (an error of 5e-6 in r, measured with 200 rows).

    The factors are powers of two, None where every unit has a deviation within 2^±LARGEST_EXPONENT.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        mean, deviation = _mean_and_deviation(table)
        shift = np.where(np.abs(mean) > deviation, mean, 0).astype(table.dtype)
    deviation = placement.to_host(deviation)
    known = np.isfinite(deviation) & (deviation > 0)
    exponents = np.where(known, np.frexp(np.where(known, deviation, 1))[1], 0)
    largest = int(exponents[known].max()) if known.any() else 0
    network = -largest if abs(largest) > LARGEST_EXPONENT else 0
    units = np.where(known & (exponents + network < -LARGEST_EXPONENT), -(exponents + network), 0)
    if not network and not units.any():
        return shift, None, None
    units = np.minimum(units, 1000 - network)
    return shift, np.ldexp(1.0, units + network), (float(np.ldexp(1.0, network)), np.ldexp(1.0, units))


def _mean_and_deviation(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each unit, float64; squares of float64 beyond 1e150 do not overflow."""
    if kernels.on_gpu(table) or table.dtype == np.float32:
        return table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    exponents = np.frexp(np.abs(table).max(axis=0))[1]
    part = np.ldexp(table, -exponents)
    return np.ldexp(part.mean(axis=0), exponents), np.ldexp(part.std(axis=0), exponents)
