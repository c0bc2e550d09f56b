"""Kernels for float32 arrays on a CUDA device: the names, shapes and meanings of basiscli.kernels.reference.

S seeds, N samples, C units. A launch serves all seeds. Nothing here waits for the device or moves data to or from it.
"""

import math

import cupy
import numpy as np

from basiscli.kernels.device import by_seed, elements, launch, over, product, whole

# Tiles of a convolution's products: rows, and the columns that there are kernels for.
ROWS, COLUMNS = 128, (16, 32, 64)
CONVOLUTION_THREADS = 128
# The sum behind a weight gradient is cut into parts of this many positions or more, and no more parts than give BLOCKS
# blocks a seed. They depend on one seed's shape alone, and so do the sums' bits.
PART, BLOCKS = 1024, 256
# A block of a walk over rows takes at most 2^5 units; a thread of it at least this many rows.
UNIT_BITS, ROWS_A_THREAD, THREADS = 5, 8, 256
# Blocks that the rows of a seed are cut into: at most so many where their sums are added up afterwards.
SUMMED_CHUNKS, CHUNKS = 256, 60000
WARPS = 8
# Dropout compares this many random bits with the rate.
DROPOUT_BITS = 24
SQUARES = 64  # blocks that share a sum of squares
MOST_POSITIONS = 2**31 - 2**16

__all__ = [
    "account",
    "adamw",
    "add",
    "add_units",
    "average_pool",
    "average_pool_gradient",
    "batchnorm",
    "batchnorm_gradient",
    "batchnorm_relu",
    "batchnorm_relu_gradient",
    "clip",
    "convolution",
    "convolution_input_gradient",
    "convolution_weight_gradient",
    "cross_entropy",
    "dense",
    "dense_input_gradient",
    "dense_weight_gradient",
    "dropout",
    "follow",
    "gather",
    "gelu",
    "gelu_gradient",
    "global_pool",
    "global_pool_gradient",
    "layernorm",
    "layernorm_gradient",
    "max_pool",
    "max_pool_gradient",
    "next_mask",
    "normalise",
    "normalise_relu",
    "power_sums",
    "put",
    "relu",
    "relu_gradient",
    "rows",
    "sgd",
    "squared_norm",
    "subsample",
    "subsample_gradient",
    "tanh",
    "tanh_gradient",
    "unit_sums",
]


def dense(x, w, b, rectify=False):
    """y = x w + b, or max(x w + b, 0); see the reference."""
    y = _empty(len(w), x.shape[1], w.shape[2])
    product(x, w, y)
    y = y if b is None else add_units(y, b)
    return relu(y) if rectify else y


def dense_input_gradient(dy, w, x=None):
    """dx = dy wᵀ, 0 where an x is given and not positive; see the reference."""
    dx = _empty(*dy.shape[:2], w.shape[1])
    product(dy, w, dx, transpose_b=True)
    return dx if x is None else relu_gradient(dx, x)


def dense_weight_gradient(x, dy, out=None, sums=None):
    """dw = xᵀ dy into `out`, and Σ_n dy into `sums`, where they are given; see the reference."""
    dw = _empty(len(dy), x.shape[2], dy.shape[2]) if out is None else out
    product(x, dy, dw, transpose_a=True)
    if sums is not None:
        unit_sums(dy, sums)
    return dw


def convolution(x, w, stride, padding):
    """y = w * x; see the reference."""
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], w.shape[1:3], strict=True)]
    y = _empty(len(w), x.shape[1], *size, w.shape[4])
    shape = _shape(x.shape, y.shape, w.shape[1:3], stride, padding)
    _convolve("convolution", y[0].size // w.shape[4], w.shape[4], len(w), *by_seed(x), *by_seed(w), y, *shape)
    return y


def convolution_input_gradient(dy, w, stride, padding, size):
    """dx, the gradient at inputs of size (H, W); see the reference."""
    dx = _empty(len(w), dy.shape[1], *size, w.shape[3])
    shape = _shape(dx.shape, dy.shape, w.shape[1:3], stride, padding)
    phase = dy.shape[1] * -(-size[0] // stride) * -(-size[1] // stride)  # positions of the largest
    _convolve("input_gradient", phase, w.shape[3], len(w) * stride**2, *by_seed(dy), *by_seed(w), dx, *shape)
    return dx


def convolution_weight_gradient(x, dy, stride, padding, kernel, out=None):
    """dw, into `out` where it is given; see the reference."""
    dw = _empty(len(dy), *kernel, x.shape[4], dy.shape[4]) if out is None else out
    rows, columns, depth = dw[0].size // dy.shape[4], dy.shape[4], dy[0].size // dy.shape[4]
    tiles = -(-rows // ROWS) * -(-columns // _tile(columns))
    parts = max(1, min(-(-depth // PART), BLOCKS // tiles))
    sums = _empty(len(dy), parts, rows, columns)
    shape = _shape(x.shape, dy.shape, kernel, stride, padding)
    _convolve(
        "weight_gradient", rows, columns, len(dy) * parts, *by_seed(x), *by_seed(dy), sums, *shape,
        parts, -(-depth // parts),
    )  # fmt: skip
    pitch = np.int64(dw.strides[0] // 4)
    over("convolution", "sum_parts", rows * columns, sums, dw, pitch, rows * columns, parts, rows=len(dw))
    return dw


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C), into `out` where it is given."""
    dy = whole(dy)
    sums = _empty(len(dy), dy.shape[-1]) if out is None else out
    partials, chunks = _partials(dy)
    _walk("sum_deviations", dy, dy, partials, 0, walked=SUMMED_CHUNKS)
    pitch = np.int64(sums.strides[0] // 4)
    over("normalisation", "finish_sums", sums.size, partials, sums, pitch, elements(sums), dy.shape[-1], chunks)
    return sums


def power_sums(x, offset):
    """Σ x, Σ x², Σ x³, Σ x⁴ and Σ |x + offset| of each unit, (S, 5, C) float64; see the reference."""
    x = whole(x)
    partials, chunks = _partials(x, sums=6)
    _walk("power_sums", x, x, whole(offset), partials, walked=SUMMED_CHUNKS)
    parts = partials.reshape(6, len(x), chunks, x.shape[-1])[:5]
    return parts.sum(axis=2, dtype=np.float64).swapaxes(0, 1)


def add_units(x, b):
    """x += b in place, for x (S, N, ..., C) and b (S, C); returns x."""
    if not x.flags.c_contiguous:
        raise ValueError("activations must be C-contiguous")
    _walk("add_units", x, whole(x), *by_seed(b))
    return x


def batchnorm(x, scale, shift, epsilon):
    """Normalise each unit over the batch; see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _moments(x)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    return _normalise(x, None, mean, variance, scale, shift, epsilon, rectify=False)


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`; see the reference."""
    return _normalise_gradient(dy, x, mean, variance, scale, scale, epsilon, masked=False)


def batchnorm_relu(x, scale, shift, epsilon, skip=None):
    """y = max(batchnorm(x) + skip, 0); see the reference. Returns y, mean (S, C), variance (S, C)."""
    mean, variance = _moments(x)
    return normalise_relu(x, mean, variance, scale, shift, epsilon, skip), mean, variance


def normalise_relu(x, mean, variance, scale, shift, epsilon, skip=None):
    """y = max(normalise(x) + skip, 0); see the reference."""
    return _normalise(x, skip, mean, variance, scale, shift, epsilon, rectify=True)


def batchnorm_relu_gradient(dy, x, mean, variance, scale, shift, epsilon):
    """Return dx, dscale, dshift of `batchnorm_relu` without a skip; see the reference."""
    return _normalise_gradient(dy, x, mean, variance, scale, shift, epsilon, masked=True)


def layernorm(x, scale, shift, epsilon):
    """Normalise each sample (and position) over its units; see the reference."""
    x = whole(x)
    y, units = _empty(*x.shape), x.shape[-1]
    rows = x.size // units
    launch(
        "normalisation", "layernorm", (-(-rows // WARPS),), THREADS,
        x, *_parameters(scale, shift), float(epsilon), y, np.int64(rows), rows // len(x), units,
    )  # fmt: skip
    return y


def layernorm_gradient(dy, x, scale, epsilon):
    """Return dx, dscale, dshift of `layernorm`; see the reference."""
    dy, x = whole(dy), whole(x)
    dx, products, units = _empty(*x.shape), _empty(*x.shape), x.shape[-1]
    rows = x.size // units
    launch(
        "normalisation", "layernorm_gradient", (-(-rows // WARPS),), THREADS,
        dy, x, *by_seed(scale), float(epsilon), dx, products, np.int64(rows), rows // len(x), units,
    )  # fmt: skip
    return dx, unit_sums(products), unit_sums(dy)


def max_pool(x, size, stride, padding):
    """Largest value of each window of size x size, and where; see the reference."""
    seeds, samples, *sides, units = x.shape
    y = _empty(seeds, samples, *((side + 2 * padding - size) // stride + 1 for side in sides), units)
    where = cupy.empty(y.shape, np.uint8)
    over(
        "pooling", "max_pool", y.size, whole(x), y, where, elements(y), *y.shape[2:], *sides, size, stride, padding
    )  # fmt: skip
    return y, where


def max_pool_gradient(dy, argmax, shape, size, stride, padding):
    """dx = the sum of dy over the windows in which x was the largest; `shape` is that of x."""
    dx = _empty(*shape)
    over(
        "pooling", "max_pool_gradient", dx.size, whole(dy), argmax, dx, elements(dx), *shape[2:], *dy.shape[2:4],
        size, stride, padding,
    )  # fmt: skip
    return dx


def average_pool(x, size):
    """Mean of each window of size x size; see the reference."""
    seeds, samples, height, width, units = x.shape
    y = _empty(seeds, samples, height // size, width // size, units)
    over("pooling", "average_pool", y.size, whole(x), y, elements(y), *y.shape[2:], size)
    return y


def average_pool_gradient(dy, size):
    """dx = dy / size², the same for all positions of a window."""
    seeds, samples, height, width, units = dy.shape
    dx = _empty(seeds, samples, height * size, width * size, units)
    over("pooling", "average_pool_gradient", dx.size, whole(dy), dx, elements(dx), *dx.shape[2:], size)
    return dx


def global_pool(x):
    """Mean over all positions: (S, N, H, W, C) -> (S, N, C)."""
    seeds, samples, height, width, units = x.shape
    y = _empty(seeds, samples, units)
    over("pooling", "global_pool", y.size, whole(x), y, elements(y), height * width, units)
    return y


def global_pool_gradient(dy, size):
    """dx = dy / (H W), the same for all positions; size (H, W)."""
    dx = _empty(*dy.shape[:2], *size, dy.shape[2])
    over("pooling", "global_pool_gradient", dx.size, whole(dy), dx, elements(dx), size[0] * size[1], dy.shape[2])
    return dx


def subsample(x, stride, units):
    """Every stride-th row and column, with units of 0 after those of x; see the reference."""
    height, width = (-(-n // stride) for n in x.shape[2:4])
    y = _empty(*x.shape[:2], height, width, units)
    over("pooling", "subsample", y.size, whole(x), y, elements(y), *y.shape[2:], *x.shape[2:], stride)
    return y


def subsample_gradient(dy, stride, shape):
    """dx = dy at the positions that were picked, else 0; `shape` is that of x."""
    dx = _empty(*shape)
    over("pooling", "subsample_gradient", dx.size, whole(dy), dx, elements(dx), *dy.shape[2:], *shape[2:], stride)
    return dx


def dropout(x, stream, rate):
    """y = x / (1 - rate) where the stream's bit for the element is 1, else 0; see the reference."""
    y = _empty(*x.shape)
    bound = np.int64(round(rate * 2**DROPOUT_BITS))
    over(
        "pointwise", "dropout", x[0].size, whole(x), whole(stream), y, np.int64(x[0].size), DROPOUT_BITS, bound,
        1 / (1 - rate), rows=len(x),
    )  # fmt: skip
    return y


def add(x, y):
    """x + y, of one shape."""
    return _map("add", x, y)


def relu(x):
    """y = max(x, 0)."""
    return _map("relu", x)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return _map("relu_gradient", dy, x)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function."""
    return _map("gelu", x)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    return _map("gelu_gradient", dy, x)


def tanh(x):
    """y = tanh x."""
    return _map("tanh_forward", x)


def tanh_gradient(dy, x):
    """dx = dy (1 - tanh² x)."""
    return _map("tanh_gradient", dy, x)


def cross_entropy(logits, labels, smoothing=0.0):
    """Return loss (S,) float64, hits (S,) and dlogits (S, N, K); see the reference."""
    seeds, samples, classes = logits.shape
    losses, hits = cupy.empty((seeds, samples), np.float64), cupy.empty((seeds, samples), np.int32)
    loss, hit, dlogits = cupy.empty(seeds, np.float64), cupy.empty(seeds, np.int64), _empty(*logits.shape)
    blocks = -(-seeds * samples // THREADS)
    launch(
        "training", "cross_entropy", (blocks,), THREADS,
        whole(logits), _integers(labels), len(labels) < seeds, float(smoothing), losses, hits, dlogits,
        np.int64(seeds * samples), samples, classes,
    )  # fmt: skip
    launch("training", "sum_losses", (seeds,), THREADS, losses, hits, loss, hit, samples)
    return loss, hit, dlogits


def account(loss, hits, samples, alive, total_loss, total_hits):
    """Add a batch to the sums of an epoch in place and return who goes on; see the reference."""
    alive &= np.isfinite(loss)
    total_loss += loss * samples
    total_hits += hits
    return alive.astype(np.float64)


def clip(factor, squares, bound):
    """Multiply factor (S,) in place by min(1, bound / norm); see the reference."""
    factor *= np.nan_to_num(bound / np.maximum(np.sqrt(squares), bound))


def follow(mean, variance, batch_mean, batch_variance, part, unbiased):
    """Move running statistics in place towards those of a batch; see the reference."""
    mean += part * (batch_mean - mean)
    variance += part * (batch_variance * np.float32(unbiased) - variance)


def next_mask(stream, period):
    """Count up a stream of masks in place; return it then; see the reference."""
    stream[:, 1] = (stream[:, 1] + 1) % period
    return stream.copy()


def put(target, values):
    """target = values, (S, C) each."""
    target[...] = values


def rows(table, index):
    """Return table[index]; see the reference."""
    return table[index]


def sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay):
    """One step of SGD in place; see the reference. The rate may lie on the device, as one float64."""
    velocity = velocity if momentum else None
    over(
        "training", "sgd", counts[1], *_flat(theta, gradient, velocity), *counts,
        _number(rate), _number(factor), float(momentum), bool(nesterov), float(decay), rows=len(theta),
    )  # fmt: skip


def adamw(theta, gradient, first, second, counts, rate, factor, step, beta1, beta2, epsilon, decay):
    """One step of AdamW in place; see the reference. Rate and step may lie on the device, as one float64 each."""
    over(
        "training", "adamw", counts[1], *_flat(theta, gradient, first, second), *counts,
        _number(rate), _number(factor), _number(step), np.float64(beta1), np.float64(beta2), float(epsilon),
        float(decay), rows=len(theta),
    )  # fmt: skip


def squared_norm(gradient, trained):
    """Sum of squares of the first `trained` entries of each seed: (S, P) -> (S,) float64."""
    pieces = max(1, min(SQUARES, -(-trained // THREADS)))
    partials, total = cupy.empty((len(gradient), pieces), np.float64), cupy.empty(len(gradient), np.float64)
    launch("training", "sum_squares", (pieces, len(gradient)), THREADS, *_flat(gradient), trained, partials)
    launch("training", "finish_squares", (len(gradient),), THREADS, partials, total, pieces)
    return total


def gather(images, index, moves, mean, inverse, hole=0):
    """Pick images, move, mirror and standardise each, and cut a hole; see the reference."""
    bytes_there = images.dtype == np.uint8
    out = _empty(*index.shape, *images.shape[1:])
    images = cupy.ascontiguousarray(images) if bytes_there else whole(images)
    over(
        "training", "gather_bytes" if bytes_there else "gather_floats", out.size,
        images, _integers(index), _integers(moves), moves.shape[-1], whole(mean), whole(inverse), hole, out,
        elements(out), *images.shape[1:],
    )  # fmt: skip
    return out


def _empty(*shape):
    return cupy.empty(shape, np.float32)


def _integers(array):
    return cupy.ascontiguousarray(array, dtype=np.int32)


def _number(value):
    """Return a number, or numbers, as float64 on the device; a number of the host is moved there."""
    return cupy.asarray(value, dtype=np.float64)


def _flat(*rows):
    """Return arrays (S, P) as they are, and how far their seeds lie apart. Raises ValueError unless that is alike."""
    there = [row for row in rows if row is not None]
    if len({row.strides for row in there}) > 1 or there[0].strides[1] != 4 or there[0].dtype != np.float32:
        raise ValueError("parameters, gradients and optimiser arrays must be float32 and laid out alike")
    return *rows, np.int64(there[0].strides[0] // 4)


def _map(name, *arrays):
    y = _empty(*arrays[0].shape)
    over("pointwise", name, y.size, *map(whole, arrays), y, elements(y))
    return y


def _shape(x, y, kernel, stride, padding):
    """Return the sizes that every convolution kernel takes, from the shapes of input and output.

    Raises ValueError for more positions of a seed than a kernel counts in 32 bits, a block and a part beyond the last.
    """
    if (positions := x[1] * max(math.prod(x[2:4]), math.prod(y[2:4]))) > MOST_POSITIONS:
        raise ValueError(f"{positions} positions of one seed are too many for a convolution")
    return *x[1:], *y[2:], *kernel, stride, padding


def _tile(columns):
    return next((width for width in COLUMNS if columns <= width), COLUMNS[-1])


def _convolve(name, rows, columns, depth, *arguments):
    width = _tile(columns)
    grid = (-(-rows // ROWS), -(-columns // width), depth)
    launch("convolution", f"{name}_{width}", grid, CONVOLUTION_THREADS, *arguments)


def _cut(x, most):
    """Return how the rows of a seed are cut: the logarithm of a block's units, rows of a chunk, chunks."""
    units = x.shape[-1]
    rows = x[0].size // units
    bits = min(UNIT_BITS, (units - 1).bit_length())
    lanes = THREADS >> bits
    chunk = max(lanes * ROWS_A_THREAD, -(-rows // most))
    return rows, bits, chunk, -(-rows // chunk)


def _partials(x, sums=2):
    """Return room for some sums of each chunk, and the number of chunks."""
    chunks = _cut(x, SUMMED_CHUNKS)[3]
    return _empty(sums, len(x), chunks, x.shape[-1]), chunks


def _walk(name, like, *arguments, walked=CHUNKS):
    """Launch a kernel over the rows and units of all seeds of an array like `like`."""
    rows, bits, chunk, chunks = _cut(like, walked)
    units = like.shape[-1]
    grid = (-(-units // (1 << bits)), chunks, len(like))
    launch("normalisation", name, grid, THREADS, *arguments, rows, units, chunk, bits)


def _moments(x):
    x = whole(x)
    seeds, units = len(x), x.shape[-1]
    mean, variance = _empty(seeds, units), _empty(seeds, units)
    partials, chunks = _partials(x)
    _walk("sum_deviations", x, x, partials, 1, walked=SUMMED_CHUNKS)
    over(
        "normalisation", "finish_moments", mean.size, partials, x, mean, variance, elements(mean), x[0].size // units,
        units, chunks,
    )  # fmt: skip
    return mean, variance


def _parameters(scale, shift):
    """Return scale and shift, (S, C), and how far their seeds lie apart; copied unless that is alike."""
    (scale, pitch), (shift, other) = by_seed(scale), by_seed(shift)
    if pitch != other:
        return whole(scale), whole(shift), np.int64(scale.shape[-1])
    return scale, shift, pitch


def _normalise(x, skip, mean, variance, scale, shift, epsilon, rectify):
    x, y = whole(x), _empty(*x.shape)
    skip = None if skip is None else whole(skip)
    _walk("normalise", x, x, skip, whole(mean), whole(variance), *_parameters(scale, shift), float(epsilon), rectify, y)
    return y


def _normalise_gradient(dy, x, mean, variance, scale, shift, epsilon, masked):
    dy, x, mean, variance = whole(dy), whole(x), whole(mean), whole(variance)
    dx, dscale, dshift = _empty(*x.shape), _empty(*mean.shape), _empty(*mean.shape)
    affine = (mean, variance, *_parameters(scale, shift), float(epsilon), masked)
    partials, chunks = _partials(x)
    _walk("sum_products", x, dy, x, *affine, partials, walked=SUMMED_CHUNKS)
    over(
        "normalisation", "finish_gradients", mean.size, partials, variance, float(epsilon), dscale, dshift,
        elements(mean), x.shape[-1], chunks,
    )  # fmt: skip
    _walk("normalise_gradient", x, dy, x, *affine, dscale, dshift, dx)
    return dx, dscale, dshift
