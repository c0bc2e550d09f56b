"""BatchNorm, LayerNorm and sums over the batch. R rows: all samples and positions of a seed; C units.

Sums are taken over chunks of rows, a constant amount of memory, in float32; those of the chunks are added in float64,
in order. So the result does not depend on the number of threads.
"""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.columns import (
    WIDTHS,
    affine,
    affine_add_relu,
    affine_relu,
    combine,
    combine_masked,
    sum_deviations,
    sum_masked_products,
    sum_products,
)
from basiscli.kernels.cpu.compiling import parallel, serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES, LANES

# Floats of a chunk, and the most rows: sums of float32 stay short, and a chunk in the L1 cache.
CHUNK = 8192
ROWS = 256
# What a walk over the rows does.
DEVIATIONS, PRODUCTS, AFFINE, COMBINE, AFFINE_RELU, AFFINE_ADD_RELU, MASKED_PRODUCTS, COMBINE_MASKED = range(8)


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
    mean, variance = _moments(x)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    return _map(AFFINE, x, x, _factors(mean, variance, scale, shift, epsilon), empty(x.shape))


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`; see the reference."""
    return _gradients(PRODUCTS, COMBINE, dy, x, mean, variance, scale, epsilon, [])


def batchnorm_relu(x, scale, shift, epsilon, skip=None):
    """y = max(batchnorm(x) + skip, 0); see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _moments(x)
    return normalise_relu(x, mean, variance, scale, shift, epsilon, skip), mean, variance


def normalise_relu(x, mean, variance, scale, shift, epsilon, skip=None):
    """y = max(normalise(x) + skip, 0); see the reference."""
    kind, other = (AFFINE_RELU, x) if skip is None else (AFFINE_ADD_RELU, skip)
    return _map(kind, x, other, _factors(mean, variance, scale, shift, epsilon), empty(x.shape))


def batchnorm_relu_gradient(dy, x, mean, variance, scale, shift, epsilon):
    """Return dx, dscale, dshift of `batchnorm_relu` without a skip; see the reference."""
    factors = _factors(mean, variance, scale, shift, epsilon)
    return _gradients(MASKED_PRODUCTS, COMBINE_MASKED, dy, x, mean, variance, scale, epsilon, factors)


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
    """Return (fold, rows of a seed, rows of a chunk, chunks of a seed) of (S, N, ..., C).

    `fold` rows that lie one after another are walked as one where that fills a vector.
    """
    units = x.shape[-1]
    rows = x[0].size // units
    fold = LANES // units
    if not fold or LANES % units or rows % fold:
        fold = 1
    chunk = max(1, min(ROWS, CHUNK // (fold * units)))
    return fold, rows // fold, chunk, -(-rows // (fold * chunk))


def _moments(x):
    """Return mean and variance of each unit, (S, C) float32."""
    pivot = np.ascontiguousarray(_rows(x)[:, 0])
    fold, rows, chunk, _ = _cut(x)
    mean, variance = np.empty((2, *pivot.shape), np.float32)
    _add_moments(_sums(DEVIATIONS, x, x, [pivot]), fold, rows, chunk, pivot, mean, variance)
    return mean, variance


def _factors(mean, variance, scale, shift, epsilon):
    """Return a and b of the map a x + b that normalises, (S, C) each."""
    factor = scale / np.sqrt(variance + np.float32(epsilon))
    return [factor, shift - mean * factor]


def _gradients(summing, combining, dy, x, mean, variance, scale, epsilon, mask):
    """Return dx, dscale, dshift; `mask` are further constants of both walks."""
    inverse = 1 / np.sqrt(variance + np.float32(epsilon))
    sums, products = _sums(summing, dy, x, [mean, *mask])
    dshift, dscale = sums.sum(axis=1, dtype=np.float64), products.sum(axis=1, dtype=np.float64) * inverse
    rows, factor = x[0].size // x.shape[-1], scale * inverse
    constants = [mean, factor, -factor * inverse * dscale / rows, -factor * dshift / rows, *mask]
    dx = _map(combining, dy, x, constants, empty(x.shape))
    return dx, dscale.astype(np.float32), dshift.astype(np.float32)


def _sums(kind, a, b, constants):
    """Return the two sums of a kind for each chunk of rows, of each place in what is folded: (2, S, chunks fold, C)."""
    fold, _, _, chunks = _cut(a)
    sums = np.empty((2, len(a), chunks * fold, a.shape[-1]), np.float32)
    _run(kind, a, b, constants, sums)
    return sums


def _map(kind, a, b, constants, y):
    """Fill and return y, a matrix like a."""
    _run(kind, a, b, constants, y)
    return y


def _run(kind, a, b, constants, result):
    if not (a.flags.c_contiguous and b.flags.c_contiguous):
        raise ValueError("activations must be C-contiguous")
    fold, rows, chunk, _ = _cut(a)
    constants = np.tile(np.array(constants, np.float32), fold)  # (K, S, fold C)
    addresses = (array.ctypes.data for array in (a, b, constants, result))
    _walk(kind, *addresses, len(a), rows, constants.shape[-1], chunk)


@Kernel
def _walk(worker, workers, arguments):
    kind, a, b, constants, result, seeds, rows, units, chunk = integers(arguments, 9)
    chunks = (rows + chunk - 1) // chunk
    row = BYTES * units
    begin, end = share(worker, workers, seeds * chunks)
    for task in range(begin, end):
        seed, block = divmod(task, chunks)
        count = min(chunk, rows - block * chunk)
        c = 0
        while c < units:
            width = _width(units - c)
            at = row * (seed * rows + block * chunk) + BYTES * c
            first = constants + row * seed + BYTES * c
            second, third = first + row * seeds, first + 2 * row * seeds
            fourth, fifth, sixth = first + 3 * row * seeds, first + 4 * row * seeds, first + 5 * row * seeds
            sums = result + row * task + BYTES * c
            squares = sums + row * seeds * chunks
            if kind == DEVIATIONS:
                sum_deviations(width, count, row, a + at, first, sums, squares)
            elif kind == PRODUCTS:
                sum_products(width, count, row, a + at, b + at, first, sums, squares)
            elif kind == MASKED_PRODUCTS:
                sum_masked_products(width, count, row, a + at, b + at, first, second, third, sums, squares)
            elif kind == AFFINE:
                affine(width, count, row, a + at, first, second, result + at)
            elif kind == AFFINE_RELU:
                affine_relu(width, count, row, a + at, first, second, result + at)
            elif kind == AFFINE_ADD_RELU:
                affine_add_relu(width, count, row, a + at, b + at, first, second, result + at)
            elif kind == COMBINE:
                combine(width, count, row, a + at, b + at, first, second, third, fourth, result + at)
            else:
                combine_masked(
                    width, count, row, a + at, b + at, first, second, third, fourth, fifth, sixth, result + at
                )
            c += width


@serial
def _add_moments(sums, fold, rows, chunk, pivot, mean, variance):
    """Fill mean and variance (S, C) from the sums of x - pivot and of its squares, (2, S, chunks fold, C)."""
    _, seeds, chunks, units = sums.shape
    for s in range(seeds):
        total, squares = np.zeros(units), np.zeros(units)
        for k in range(chunks):
            for c in range(units):
                total[c] += sums[0, s, k, c]
        total /= rows * fold
        for k in range(chunks):
            count = min(chunk, rows - k // fold * chunk)
            part = 1 / count
            for c in range(units):
                # Chan, Golub and LeVeque 1983: squares about the mean of a chunk, and those of it about that of all.
                own = np.float64(sums[0, s, k, c])
                apart = own * part - total[c]
                squares[c] += sums[1, s, k, c] - own * own * part + count * apart * apart
        for c in range(units):
            mean[s, c], variance[s, c] = pivot[s, c] + total[c], squares[c] / (rows * fold)


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
