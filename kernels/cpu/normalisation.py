"""BatchNorm, LayerNorm and sums over the batch. R rows: all samples and positions of a seed; C units.

Sums are taken over chunks of rows, a constant amount of memory, in float32; those of the chunks are added in float64,
in order. So the result does not depend on the number of threads.
"""

import numpy as np

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
from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.micro import BYTES, LANES
from basiscli.kernels.cpu.views import bits, doubles, floats, real

# Floats of a chunk, and the most rows: sums of float32 stay short, and a chunk in the L1 cache.
CHUNK = 8192
ROWS = 256
# What a walk over the rows does.
DEVIATIONS, PRODUCTS, AFFINE, COMBINE, AFFINE_RELU, AFFINE_ADD_RELU, MASKED_PRODUCTS, COMBINE_MASKED = range(8)


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C)."""
    zero = constant(np.zeros((1, len(dy), _cut(dy)[0] * dy.shape[-1])))
    sums = _sums(DEVIATIONS, dy, dy, zero)
    total = empty((len(dy), dy.shape[-1])) if out is None else out
    _finish(sums.ctypes.data, total.ctypes.data, total.strides[0], *sums.shape[1:], seeds=len(dy))
    return total


def put(target, values):
    """target = values, (S, C) each."""
    _fill(*_units(values), *_units(target), *target.shape, 1, seeds=len(target))


def add_units(x, b):
    """x += b in place, for x (S, N, ..., C) and b (S, C); returns x."""
    fold = _cut(x)[0]
    ones, constants = constant(np.ones(b.shape)), empty((2, len(b), fold * b.shape[1]))
    for place, values in enumerate((ones, b)):
        _fill(*_units(values), *_units(constants[place]), *b.shape, fold, seeds=len(b))
    return _map(AFFINE, x, x, constants, x)


def batchnorm(x, scale, shift, epsilon):
    """Normalise each unit over the batch; see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _moments(x)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    return _map(AFFINE, x, x, _factors(x, mean, variance, scale, shift, epsilon), empty(x.shape))


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`; see the reference."""
    return _gradients(PRODUCTS, COMBINE, dy, x, mean, variance, scale, None, epsilon)


def batchnorm_relu(x, scale, shift, epsilon, skip=None):
    """y = max(batchnorm(x) + skip, 0); see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _moments(x)
    return normalise_relu(x, mean, variance, scale, shift, epsilon, skip), mean, variance


def normalise_relu(x, mean, variance, scale, shift, epsilon, skip=None):
    """y = max(normalise(x) + skip, 0); see the reference."""
    kind, other = (AFFINE_RELU, x) if skip is None else (AFFINE_ADD_RELU, skip)
    return _map(kind, x, other, _factors(x, mean, variance, scale, shift, epsilon), empty(x.shape))


def batchnorm_relu_gradient(dy, x, mean, variance, scale, shift, epsilon):
    """Return dx, dscale, dshift of `batchnorm_relu` without a skip; see the reference."""
    return _gradients(MASKED_PRODUCTS, COMBINE_MASKED, dy, x, mean, variance, scale, shift, epsilon)


def follow(mean, variance, batch_mean, batch_variance, part, unbiased):
    """Move running statistics in place towards those of a batch; see the reference."""
    _follow(
        *_units(mean), *_units(variance), *_units(batch_mean), *_units(batch_variance), bits(part), bits(unbiased),
        *mean.shape, seeds=len(mean),
    )  # fmt: skip


def layernorm(x, scale, shift, epsilon):
    """Normalise each sample (and position) over its units; see the reference."""
    y, small = empty(x.shape), constant([epsilon], np.float64)
    addresses = (array.ctypes.data for array in (x, y, small))
    _layernorm(*addresses, *_units(scale), *_units(shift), *_rows(x).shape, seeds=len(x))
    return y


def layernorm_gradient(dy, x, scale, epsilon):
    """Return dx, dscale, dshift of `layernorm`; see the reference."""
    dx, product, small = empty(x.shape), empty(x.shape), constant([epsilon], np.float64)
    addresses = (array.ctypes.data for array in (dy, x, dx, product, small))
    _layernorm_input(*addresses, *_units(scale), *_rows(x).shape, seeds=len(x))
    return dx, unit_sums(product), unit_sums(dy)


def _units(values):
    """Return (address, stride over seeds in bytes) of (S, C)."""
    return values.ctypes.data, values.strides[0]


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
    seeds, units = len(x), x.shape[-1]
    fold, rows, chunk, _ = _cut(x)
    pivot = empty((1, seeds, fold * units))  # the first row of each seed
    _fill(x.ctypes.data, x.strides[0], *_units(pivot[0]), seeds, units, fold, seeds=seeds)
    mean, variance = empty((seeds, units)), empty((seeds, units))
    sums = _sums(DEVIATIONS, x, x, pivot)
    _add_moments(
        sums.ctypes.data, *sums.shape[1:], fold, rows, chunk, *_units(pivot[0]), mean.ctypes.data,
        variance.ctypes.data, seeds=seeds,
    )  # fmt: skip
    return mean, variance


def _factors(x, mean, variance, scale, shift, epsilon):
    """Return a and b of the map a x + b that normalises, (2, S, fold C)."""
    fold = _cut(x)[0]
    constants = empty((2, len(x), fold * x.shape[-1]))
    statistics = (number for values in (mean, variance, scale, shift) for number in _units(values))
    _normalising(*statistics, bits(epsilon), constants.ctypes.data, *mean.shape, fold, seeds=len(x))
    return constants


def _gradients(summing, combining, dy, x, mean, variance, scale, shift, epsilon):
    """Return dx, dscale, dshift; with a shift, dy counts where the normalised value is positive."""
    fold, masked = _cut(x)[0], shift is not None
    first = empty((3 if masked else 1, len(x), fold * x.shape[-1]))
    _fill(*_units(mean), *_units(first[0]), *mean.shape, fold, seeds=len(x))
    shift = scale if shift is None else shift
    statistics = [number for values in (mean, variance, scale, shift) for number in _units(values)]
    if masked:
        _normalising(*statistics, bits(epsilon), first[1:].ctypes.data, *mean.shape, fold, seeds=len(x))
    sums = _sums(summing, dy, x, first)
    dscale, dshift = empty(mean.shape), empty(mean.shape)
    constants = empty((6 if masked else 4, len(x), fold * x.shape[-1]))
    _combining(
        *statistics, bits(epsilon), sums.ctypes.data, sums.shape[2], dscale.ctypes.data, dshift.ctypes.data,
        constants.ctypes.data, masked, *mean.shape, fold, x[0].size // x.shape[-1], seeds=len(x),
    )  # fmt: skip
    return _map(combining, dy, x, constants, empty(x.shape)), dscale, dshift


def _sums(kind, a, b, constants):
    """Return the two sums of a kind for each chunk of rows, of each place in what is folded: (2, S, chunks fold, C)."""
    fold, _, _, chunks = _cut(a)
    sums = empty((2, len(a), chunks * fold, a.shape[-1]))
    _run(kind, a, b, constants, sums)
    return sums


def _map(kind, a, b, constants, y):
    """Fill and return y, a matrix like a."""
    _run(kind, a, b, constants, y)
    return y


def _run(kind, a, b, constants, result):
    """Walk over the rows of a and b; the constants are (K, S, fold C)."""
    if not (a.flags.c_contiguous and b.flags.c_contiguous):
        raise ValueError("activations must be C-contiguous")
    _, rows, chunk, _ = _cut(a)
    addresses = (array.ctypes.data for array in (a, b, constants, result))
    _walk(kind, *addresses, len(a), rows, constants.shape[-1], chunk, seeds=len(a))


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


@Kernel
def _fill(worker, workers, arguments):
    """target[s, f, c] = source[s, c]."""
    source, source_seed, target, target_seed, seeds, units, fold = integers(arguments, 7)
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        values, filled = (
            floats(source + s * source_seed, units),
            floats(target + s * target_seed, fold * units),
        )
        for f in range(fold):
            for c in range(units):
                filled[f * units + c] = values[c]


@Kernel
def _finish(worker, workers, arguments):
    """Add up the first sums of all chunks: total[s, c] = Σ_k sums[0, s, k, c]."""
    sums, total, total_seed, seeds, chunks, units = integers(arguments, 6)
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        parts, results = (
            floats(sums + BYTES * s * chunks * units, chunks * units),
            floats(total + s * total_seed, units),
        )
        for c in range(units):
            results[c] = _column(parts, chunks, units, c)


@serial
def _column(parts, chunks, units, c):
    total = 0.0
    for k in range(chunks):
        total += parts[k * units + c]
    return total


@Kernel
def _normalising(worker, workers, arguments):
    (
        mean, mean_seed, variance, variance_seed, scale, scale_seed, shift, shift_seed, epsilon, constants,
        seeds, units, fold,
    ) = integers(arguments, 13)  # fmt: skip
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        means, variances = floats(mean + s * mean_seed, units), floats(variance + s * variance_seed, units)
        scales, shifts = floats(scale + s * scale_seed, units), floats(shift + s * shift_seed, units)
        factors = floats(constants + BYTES * s * fold * units, fold * units)
        offsets = floats(constants + BYTES * (seeds + s) * fold * units, fold * units)
        for c in range(units):
            factor = scales[c] / np.sqrt(variances[c] + real(epsilon))
            for f in range(fold):
                factors[f * units + c], offsets[f * units + c] = factor, shifts[c] - means[c] * factor


@Kernel
def _combining(worker, workers, arguments):
    """Turn the sums of dy and of dy (x - mean) into dscale, dshift, and the constants of the map that gives dx."""
    (
        mean, mean_seed, variance, variance_seed, scale, scale_seed, shift, shift_seed, epsilon, sums, chunks,
        dscale, dshift, constants, masked, seeds, units, fold, rows,
    ) = integers(arguments, 19)  # fmt: skip
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        means, variances = floats(mean + s * mean_seed, units), floats(variance + s * variance_seed, units)
        scales, shifts = floats(scale + s * scale_seed, units), floats(shift + s * shift_seed, units)
        size = chunks * units
        parts = floats(sums + BYTES * s * size, size)
        products = floats(sums + BYTES * (seeds + s) * size, size)
        for c in range(units):
            inverse = np.float32(1) / np.sqrt(variances[c] + real(epsilon))
            shifted, scaled = _column(parts, chunks, units, c), _column(products, chunks, units, c) * inverse
            floats(dshift, seeds * units)[s * units + c] = shifted
            floats(dscale, seeds * units)[s * units + c] = scaled
            factor = scales[c] * inverse
            for f in range(fold):
                place = (s * fold + f) * units + c
                step = seeds * fold * units
                result = floats(constants, 6 * step)
                result[place], result[place + step] = means[c], factor
                result[place + 2 * step] = -factor * inverse * scaled / rows
                result[place + 3 * step] = -factor * shifted / rows
                if masked:
                    result[place + 4 * step], result[place + 5 * step] = factor, shifts[c] - means[c] * factor


@Kernel
def _follow(worker, workers, arguments):
    (
        mean, mean_seed, variance, variance_seed, new_mean, new_mean_seed, new_variance, new_variance_seed, part,
        unbiased, seeds, units,
    ) = integers(arguments, 12)  # fmt: skip
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        means, variances = floats(mean + s * mean_seed, units), floats(variance + s * variance_seed, units)
        new_means = floats(new_mean + s * new_mean_seed, units)
        new_variances = floats(new_variance + s * new_variance_seed, units)
        for c in range(units):
            means[c] += real(part) * (new_means[c] - means[c])
            variances[c] += real(part) * (new_variances[c] * real(unbiased) - variances[c])


@Kernel
def _add_moments(worker, workers, arguments):
    """Fill mean and variance (S, C) from the sums of x - pivot and of its squares, (2, S, chunks fold, C)."""
    sums, seeds, chunks, units, fold, rows, chunk, pivot, pivot_seed, mean, variance = integers(arguments, 11)
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        own = floats(sums + BYTES * s * chunks * units, chunks * units)
        squares = floats(sums + BYTES * (seeds + s) * chunks * units, chunks * units)
        pivots = floats(pivot + s * pivot_seed, units)
        means, variances = floats(mean + BYTES * s * units, units), floats(variance + BYTES * s * units, units)
        for c in range(units):
            apart, spread = _moments_of(own, squares, chunks, units, c, fold, rows, chunk)
            means[c], variances[c] = pivots[c] + apart, spread


@serial
def _moments_of(sums, squares, chunks, units, c, fold, rows, chunk):
    """Return the mean of a unit, less the pivot, and its variance."""
    mean = _column(sums, chunks, units, c) / (rows * fold)
    total = 0.0
    for k in range(chunks):
        count = min(chunk, rows - k // fold * chunk)
        # Chan, Golub and LeVeque 1983: squares about the mean of a chunk, and those of it about that of all.
        own = np.float64(sums[k * units + c])
        apart = own / count - mean
        total += squares[k * units + c] - own * own / count + count * apart * apart
    return mean, total / (rows * fold)


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


@Kernel
def _layernorm(worker, workers, arguments):
    x, y, epsilon, scale, scale_seed, shift, shift_seed, seeds, rows, units = integers(arguments, 10)
    first, last = share(worker, workers, seeds * rows)
    for task in range(first, last):
        seed = task // rows
        source, result = floats(x + BYTES * task * units, units), floats(y + BYTES * task * units, units)
        scales, shifts = floats(scale + seed * scale_seed, units), floats(shift + seed * shift_seed, units)
        mean, inverse = _row_statistics(source, doubles(epsilon, 1)[0])
        for c in range(units):
            result[c] = (source[c] - mean) * inverse * scales[c] + shifts[c]


@Kernel
def _layernorm_input(worker, workers, arguments):
    dy, x, dx, product, epsilon, scale, scale_seed, seeds, rows, units = integers(arguments, 10)
    first, last = share(worker, workers, seeds * rows)
    for task in range(first, last):
        place = BYTES * task * units
        gradient, source = floats(dy + place, units), floats(x + place, units)
        result, along = floats(dx + place, units), floats(product + place, units)
        scales = floats(scale + task // rows * scale_seed, units)
        _layernorm_row(gradient, source, scales, doubles(epsilon, 1)[0], result, along)


@serial
def _layernorm_row(dy, x, scale, epsilon, dx, product):
    mean, inverse = _row_statistics(x, epsilon)
    total, along = 0.0, 0.0
    for c in range(len(x)):
        z = (x[c] - mean) * inverse
        g = dy[c] * scale[c]
        total += g
        along += g * z
        product[c] = dy[c] * z
    total, along = np.float32(total / len(x)), np.float32(along / len(x))
    for c in range(len(x)):
        z = (x[c] - mean) * inverse
        dx[c] = (dy[c] * scale[c] - total - z * along) * inverse
