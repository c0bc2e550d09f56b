"""BatchNorm, LayerNorm and sums over the batch. R rows: all samples and positions of a seed; C units.

Sums are taken over chunks of rows, a constant amount of memory, in float32; those of the chunks are added in float64,
in order. So the result does not depend on the number of threads.
"""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.columns import WIDTHS, affine, combine, sum_deviations, sum_products
from basiscli.kernels.cpu.compiling import parallel, serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES

# Floats of a chunk, and the most rows: sums of float32 stay short, and a chunk in the L1 cache.
CHUNK = 8192
ROWS = 256
# What a walk over the rows does.
DEVIATIONS, PRODUCTS, AFFINE, COMBINE = range(4)


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C)."""
    zero = np.zeros((len(dy), dy.shape[-1]))
    total = _sums(DEVIATIONS, dy, dy, [zero])[0].sum(axis=1, dtype=np.float64)
    if out is None:
        return total.astype(np.float32)
    out[...] = total
    return out


def add_units(x, b):
    """x += b in place, for x (S, N, ..., C) and b (S, C); returns x."""
    return _map(AFFINE, x, x, [np.ones_like(b), b], x)


def batchnorm(x, scale, shift, epsilon):
    """Normalise each unit over the batch; see the reference. Returns y, mean (S, C), variance (S, C)."""
    pivot = _rows(x)[:, 0]
    sums, squares = _sums(DEVIATIONS, x, x, [pivot]).astype(np.float64)
    rows, chunk, chunks = _cut(x)
    counts = np.minimum(chunk, rows - chunk * np.arange(chunks))[:, None]
    deviation = sums.sum(axis=1) / rows
    # Chan, Golub and LeVeque 1983: squares about the mean of each chunk, and those of its mean about that of all.
    squares += counts * (sums / counts - deviation[:, None]) ** 2 - sums**2 / counts
    mean, variance = (pivot + deviation).astype(np.float32), (squares.sum(axis=1) / rows).astype(np.float32)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    factor = scale / np.sqrt(variance + np.float32(epsilon))
    return _map(AFFINE, x, x, [factor, shift - mean * factor], empty(x.shape))


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`; see the reference."""
    inverse = 1 / np.sqrt(variance + np.float32(epsilon))
    sums, products = _sums(PRODUCTS, dy, x, [mean])
    dshift, dscale = sums.sum(axis=1, dtype=np.float64), products.sum(axis=1, dtype=np.float64) * inverse
    rows, factor = _cut(x)[0], scale * inverse
    constants = [mean, factor, -factor * inverse * dscale / rows, -factor * dshift / rows]
    dx = _map(COMBINE, dy, x, constants, empty(x.shape))
    return dx, dscale.astype(np.float32), dshift.astype(np.float32)


def layernorm(x, scale, shift, epsilon):
    """Normalise each sample (and position) over its units; see the reference."""
    y = empty(x.shape)
    _layernorm(_rows(x), np.ascontiguousarray(scale), np.ascontiguousarray(shift), epsilon, _rows(y))
    return y


def layernorm_gradient(dy, x, scale, epsilon):
    """Return dx, dscale, dshift of `layernorm`; see the reference."""
    dx, product = empty(x.shape), empty(x.shape)
    _layernorm_input(_rows(dy), _rows(x), np.ascontiguousarray(scale), epsilon, _rows(dx), _rows(product))
    return dx, unit_sums(product), unit_sums(dy)


def _rows(x):
    """View (S, N, ..., C) as (S, R, C)."""
    return x.reshape(len(x), -1, x.shape[-1])


def _cut(x):
    """Return (rows of a seed, rows of a chunk, chunks of a seed) of (S, N, ..., C)."""
    rows = x[0].size // x.shape[-1]
    chunk = max(1, min(ROWS, CHUNK // x.shape[-1]))
    return rows, chunk, -(-rows // chunk)


def _sums(kind, a, b, constants):
    """Return the two sums of a kind for each chunk of rows: (2, S, chunks, C)."""
    sums = np.empty((2, len(a), _cut(a)[2], a.shape[-1]), np.float32)
    _run(kind, a, b, constants, sums)
    return sums


def _map(kind, a, b, constants, y):
    """Fill and return y, a matrix like a."""
    _run(kind, a, b, constants, y)
    return y


def _run(kind, a, b, constants, result):
    if not (a.flags.c_contiguous and b.flags.c_contiguous):
        raise ValueError("activations must be C-contiguous")
    constants = np.stack(constants, dtype=np.float32)  # (K, S, C)
    rows, chunk, _ = _cut(a)
    addresses = (array.ctypes.data for array in (a, b, constants, result))
    _walk(kind, *addresses, len(a), rows, a.shape[-1], chunk)


@Kernel
def _walk(worker, workers, arguments):
    kind, a, b, constants, result, seeds, rows, units, chunk = integers(arguments, 9)
    chunks = (rows + chunk - 1) // chunk
    row = BYTES * units
    first, last = share(worker, workers, seeds * chunks)
    for task in range(first, last):
        seed, block = divmod(task, chunks)
        count = min(chunk, rows - block * chunk)
        c = 0
        while c < units:
            width = _width(units - c)
            at = row * (seed * rows + block * chunk) + BYTES * c
            constant = constants + row * seed + BYTES * c
            sums = result + row * task + BYTES * c
            if kind == DEVIATIONS:
                sum_deviations(width, count, row, a + at, constant, sums, sums + row * seeds * chunks)
            elif kind == PRODUCTS:
                sum_products(width, count, row, a + at, b + at, constant, sums, sums + row * seeds * chunks)
            elif kind == AFFINE:
                affine(width, count, row, a + at, constant, constant + row * seeds, result + at)
            else:
                combine(
                    width, count, row, a + at, b + at, constant, constant + row * seeds, constant + 2 * row * seeds,
                    constant + 3 * row * seeds, result + at,
                )  # fmt: skip
            c += width


@serial
def _width(left):
    """Return the most columns that are walked at once."""
    for width in WIDTHS:
        if width <= left:
            return width
    return 1


@serial
def _row_statistics(x, epsilon):
    """Return the mean of one row and the inverse of its standard deviation."""
    total = 0.0
    for value in x:
        total += value
    mean = total / x.size
    squares = 0.0
    for value in x:
        squares += (value - mean) * (value - mean)
    return np.float32(mean), np.float32(1 / np.sqrt(squares / x.size + epsilon))


@parallel
def _layernorm(x, scale, shift, epsilon, y):
    seeds, rows, units = x.shape
    for task in prange(seeds * rows):
        s, r = divmod(np.int64(task), rows)
        mean, inverse = _row_statistics(x[s, r], epsilon)
        for c in range(units):
            y[s, r, c] = (x[s, r, c] - mean) * inverse * scale[s, c] + shift[s, c]


@parallel
def _layernorm_input(dy, x, scale, epsilon, dx, product):
    seeds, rows, units = x.shape
    for task in prange(seeds * rows):
        s, r = divmod(np.int64(task), rows)
        mean, inverse = _row_statistics(x[s, r], epsilon)
        total, along = 0.0, 0.0
        for c in range(units):
            z = (x[s, r, c] - mean) * inverse
            g = dy[s, r, c] * scale[s, c]
            total += g
            along += g * z
            product[s, r, c] = dy[s, r, c] * z
        total, along = np.float32(total / units), np.float32(along / units)
        for c in range(units):
            z = (x[s, r, c] - mean) * inverse
            dx[s, r, c] = (dy[s, r, c] * scale[s, c] - total - z * along) * inverse
