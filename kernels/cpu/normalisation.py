"""BatchNorm, LayerNorm and sums over the batch. R rows: all samples and positions of a seed; C units.

Sums run in float64: R reaches 10⁵ in a convolution. A task is (seed, block of units) for what is summed over rows, and
(seed, block of rows) for the rest, so no sum is split and the result does not depend on the number of threads.
"""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel, serial
from basiscli.kernels.cpu.memory import empty

UNITS = 64
ROWS = 256


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C)."""
    sums = _like_units(dy)
    _sum_rows(_rows(dy), sums)
    if out is None:
        return sums
    out[...] = sums
    return out


def add_units(x, b):
    """x += b in place, for x (S, N, ..., C) and b (S, C); returns x."""
    _affine(_rows(x), np.ones_like(b, order="C"), np.ascontiguousarray(b), _rows(x))
    return x


def batchnorm(x, scale, shift, epsilon):
    """Normalise each unit over the batch; see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _like_units(x), _like_units(x)
    _moments(_rows(x), mean, variance)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    y = empty(x.shape)
    factor = scale / np.sqrt(variance + np.float32(epsilon))
    _affine(_rows(x), factor, shift - mean * factor, _rows(y))
    return y


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`; see the reference."""
    dscale, dshift, dx = _like_units(x), _like_units(x), empty(x.shape)
    inverse = 1 / np.sqrt(variance + np.float32(epsilon))
    scale = np.ascontiguousarray(scale)  # a view of the flat parameters would be another type to compile for
    _batchnorm_sums(_rows(dy), _rows(x), mean, inverse, dscale, dshift)
    _batchnorm_input(_rows(dy), _rows(x), mean, inverse, scale, dscale, dshift, _rows(dx))
    return dx, dscale, dshift


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


def _like_units(x):
    return np.empty((len(x), x.shape[-1]), np.float32)


@parallel
def _sum_rows(x, out):
    seeds, rows, units = x.shape
    blocks = (units + UNITS - 1) // UNITS
    for task in prange(seeds * blocks):
        s, block = divmod(np.int64(task), blocks)
        first = block * UNITS
        width = min(UNITS, units - first)
        total = np.zeros(UNITS)
        for r in range(rows):
            for c in range(width):
                total[c] += x[s, r, first + c]
        for c in range(width):
            out[s, first + c] = total[c]


@parallel
def _moments(x, mean, variance):
    seeds, rows, units = x.shape
    blocks = (units + UNITS - 1) // UNITS
    for task in prange(seeds * blocks):
        s, block = divmod(np.int64(task), blocks)
        first = block * UNITS
        width = min(UNITS, units - first)
        total, squares = np.zeros(UNITS), np.zeros(UNITS)
        for r in range(rows):
            for c in range(width):
                total[c] += x[s, r, first + c]
        total /= rows
        for r in range(rows):
            for c in range(width):
                deviation = x[s, r, first + c] - total[c]
                squares[c] += deviation * deviation
        for c in range(width):
            mean[s, first + c] = total[c]
            variance[s, first + c] = squares[c] / rows


@parallel
def _affine(x, factor, offset, y):
    seeds, rows, units = x.shape
    blocks = (rows + ROWS - 1) // ROWS
    for task in prange(seeds * blocks):
        s, block = divmod(np.int64(task), blocks)
        for r in range(block * ROWS, min((block + 1) * ROWS, rows)):
            for c in range(units):
                y[s, r, c] = x[s, r, c] * factor[s, c] + offset[s, c]


@parallel
def _batchnorm_sums(dy, x, mean, inverse, dscale, dshift):
    seeds, rows, units = x.shape
    blocks = (units + UNITS - 1) // UNITS
    for task in prange(seeds * blocks):
        s, block = divmod(np.int64(task), blocks)
        first = block * UNITS
        width = min(UNITS, units - first)
        products, total = np.zeros(UNITS), np.zeros(UNITS)
        for r in range(rows):
            for c in range(width):
                u = first + c
                products[c] += dy[s, r, u] * (x[s, r, u] - mean[s, u])
                total[c] += dy[s, r, u]
        for c in range(width):
            dscale[s, first + c] = products[c] * inverse[s, first + c]
            dshift[s, first + c] = total[c]


@parallel
def _batchnorm_input(dy, x, mean, inverse, scale, dscale, dshift, dx):
    seeds, rows, units = x.shape
    blocks = (rows + ROWS - 1) // ROWS
    for task in prange(seeds * blocks):
        s, block = divmod(np.int64(task), blocks)
        for r in range(block * ROWS, min((block + 1) * ROWS, rows)):
            for c in range(units):
                z = (x[s, r, c] - mean[s, c]) * inverse[s, c]
                centred = dy[s, r, c] - (dshift[s, c] + z * dscale[s, c]) / np.float32(rows)
                dx[s, r, c] = scale[s, c] * inverse[s, c] * centred


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
