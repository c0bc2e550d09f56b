"""The definition of every kernel in numpy. S seeds, N samples, I input units, O output units, C units, H, W positions.

Activations are (S, N, ..., C), dense weights (S, I, O), those of a convolution (S, KH, KW, I, O). An input with S = 1
is shared by all seeds.
"""

from itertools import product

import numpy as np

SQRT2 = np.sqrt(2.0)
# Constants of SplitMix64 (Steele, Lea and Flood 2014), the hash behind dropout.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Dropout compares this many random bits with the rate.
DROPOUT_BITS = 24


def dense(x, w, b, rectify=False):
    """y = x w + b, or max(x w + b, 0) with `rectify`: (S or 1, N, I), (S, I, O), (S, O) or None -> (S, N, O)."""
    y = np.matmul(x, w)
    if b is not None:
        y += b[:, None]
    return relu(y) if rectify else y


def dense_input_gradient(dy, w, x=None):
    """dx = dy wᵀ; if x is given, 0 where x is not positive: (S, N, O), (S, I, O), (S, N, I) -> (S, N, I)."""
    dx = np.matmul(dy, w.swapaxes(1, 2))
    return dx if x is None else relu_gradient(dx, x)


def dense_weight_gradient(x, dy, out=None, sums=None):
    """dw = xᵀ dy: (S or 1, N, I), (S, N, O) -> (S, I, O), into `out` if given.

    If `sums` (S, O) is given, it receives Σ_n dy.
    """
    if sums is not None:
        unit_sums(dy, sums)
    return np.matmul(np.broadcast_to(x, (len(dy), *x.shape[1:])).swapaxes(1, 2), dy, out=out)


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C)."""
    return dy.sum(axis=tuple(range(1, dy.ndim - 1)), out=out)


def power_sums(x, offset):
    """Σ x, Σ x², Σ x³, Σ x⁴ and Σ |x + offset| over all axes but the first and the last, in float64.

    (S, N, ..., C), (S, C) -> (S, 5, C)
    """
    wide = x.astype(np.float64).reshape(len(x), -1, x.shape[-1])
    powers = [wide, wide**2, wide**3, wide**4, np.abs(wide + offset[:, None])]
    return np.stack([power.sum(axis=1) for power in powers], axis=1)


def put(target, values):
    """target = values, (S, C) each."""
    target[...] = values


def add_units(x, b):
    """x += b in place, for x (S, N, ..., C) and b (S, C); returns x."""
    x += _per_unit(b, x)
    return x


def add(x, y):
    """x + y, both of the same shape."""
    return x + y


def convolution(x, w, stride, padding):
    """y[n, i, j] = Σ_kl x[n, stride i + k - padding, stride j + l - padding] w[k, l], with x = 0 outside.

    (S or 1, N, H, W, I), (S, KH, KW, I, O) -> (S, N, H', W', O) with H' = (H + 2 padding - KH) // stride + 1.
    """
    seeds, height, width, _, outputs = w.shape
    size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], (height, width), strict=True))
    x, y = _pad(x, padding), np.zeros((seeds, x.shape[1], *size, outputs), x.dtype)
    for k, l in product(range(height), range(width)):
        seen = _seen(x, k, l, stride, size)
        y += np.matmul(_rows(seen), w[:, k, l]).reshape(y.shape)
    return y


def convolution_input_gradient(dy, w, stride, padding, size):
    """dx[n, stride i + k - padding, stride j + l - padding] = Σ_kl dy[n, i, j] w[k, l]ᵀ; size is (H, W) of x."""
    seeds, height, width, inputs, _ = w.shape
    dx = np.zeros((seeds, dy.shape[1], *size, inputs), dy.dtype)
    padded = _pad(dx, padding)
    for k, l in product(range(height), range(width)):
        seen = _seen(padded, k, l, stride, dy.shape[2:4])
        seen += np.matmul(_rows(dy), w[:, k, l].swapaxes(1, 2)).reshape(seen.shape)
    return padded[:, :, padding : padding + size[0], padding : padding + size[1]]


def convolution_weight_gradient(x, dy, stride, padding, kernel, out=None):
    """dw[k, l] = Σ_nij x[n, stride i + k - padding, stride j + l - padding]ᵀ dy[n, i, j], kernel (KH, KW)."""
    dw = np.empty((len(dy), *kernel, x.shape[-1], dy.shape[-1]), dy.dtype) if out is None else out
    x = _pad(x, padding)
    for k, l in product(range(kernel[0]), range(kernel[1])):
        seen = _rows(_seen(x, k, l, stride, dy.shape[2:4]))
        dw[:, k, l] = np.matmul(seen.swapaxes(1, 2), _rows(dy))
    return dw


def max_pool(x, size, stride, padding):
    """Largest value of each window of size x size, and its position: (S, N, H, W, C) -> two of (S, N, H', W', C).

    Window (i, j) begins at (stride i - padding, stride j - padding), and H' = (H + 2 padding - size) // stride + 1.
    What lies outside of the image is never the largest; padding is at most size / 2. The position, uint8, counts the
    places of the window row by row; of equal values it is the first.
    """
    padded = _pad(x, padding, -np.inf)
    rows, columns = ((n + 2 * padding - size) // stride + 1 for n in x.shape[2:4])
    seen = [_seen(padded, k, l, stride, (rows, columns)) for k, l in product(range(size), repeat=2)]
    windows = np.stack(seen, axis=-2)
    at = windows.argmax(axis=-2)
    return np.take_along_axis(windows, at[..., None, :], -2)[..., 0, :], at.astype(np.uint8)


def max_pool_gradient(dy, argmax, shape, size, stride, padding):
    """dx = the sum of dy over the windows in which x was the largest; `shape` is the shape of x."""
    padded = _pad(np.zeros(shape, dy.dtype), padding)
    for at, (k, l) in enumerate(product(range(size), repeat=2)):
        seen = _seen(padded, k, l, stride, dy.shape[2:4])
        seen += np.where(argmax == at, dy, 0)
    return padded[:, :, padding : padding + shape[2], padding : padding + shape[3]]


def average_pool(x, size):
    """Mean of each window of size x size, without overlap: (S, N, H, W, C) -> (S, N, H', W', C)."""
    return _windows(x, size).mean(axis=-2)


def average_pool_gradient(dy, size):
    """dx = dy / size², the same for all positions of a window."""
    return (dy / size**2).repeat(size, axis=2).repeat(size, axis=3)


def global_pool(x):
    """Mean over all positions: (S, N, H, W, C) -> (S, N, C)."""
    return x.mean(axis=(2, 3))


def global_pool_gradient(dy, size):
    """dx = dy / (H W), the same for all positions; size (H, W)."""
    height, width = size
    return np.broadcast_to(
        (dy / (height * width))[:, :, None, None], (*dy.shape[:2], height, width, dy.shape[2])
    ).copy()


def subsample(x, stride, units):
    """Every stride-th row and column, units of 0 added: (S, N, H, W, I) -> (S, N, H', W', units)."""
    picked = x[:, :, ::stride, ::stride]
    y = np.zeros((*picked.shape[:-1], units), x.dtype)
    y[..., : x.shape[-1]] = picked
    return y


def subsample_gradient(dy, stride, shape):
    """dx = dy at the positions that `subsample` took, else 0; `shape` is the shape of x."""
    dx = np.zeros(shape, dy.dtype)
    dx[:, :, ::stride, ::stride] = dy[..., : shape[-1]]
    return dx


def dropout(x, stream, rate):
    """y = x / (1 - rate) where the stream's bit for the element is 1, else 0; x (S, N, ..., C), stream (S, 2).

    Element i of a seed is kept if h(h(a 2³² + b) + i) / 2⁶⁴ is at least the rate. h is SplitMix64, and a, b are the two
    whole numbers of the stream. The gradient dx is the same function of dy. (Srivastava et al. 2014.)
    """
    a, b = stream.astype(np.uint64).T
    start = _splitmix((a << np.uint64(32)) + b)[:, None]
    index = np.arange(x[0].size, dtype=np.uint64)
    bits = _splitmix(start + index) >> np.uint64(64 - DROPOUT_BITS)
    kept = (bits >= np.uint64(round(rate * 2**DROPOUT_BITS))).reshape(x.shape)
    return np.where(kept, x * (1 / (1 - rate)), 0).astype(x.dtype)


def next_mask(stream, period):
    """Add 1 to the second word of a stream of masks (S, 2) in place, modulo `period`. Return a copy of the result."""
    stream[:, 1] = (stream[:, 1] + 1) % period
    return stream.copy()


def relu(x):
    """y = max(x, 0)."""
    return np.where(x < 0, 0, x).astype(x.dtype)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return np.where(x > 0, dy, 0).astype(dy.dtype)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, the exact form)."""
    return (0.5 * x * (1 + _erf(x / SQRT2))).astype(x.dtype)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return (dy * (0.5 * (1 + _erf(x / SQRT2)) + x * density)).astype(dy.dtype)


def tanh(x):
    """y = tanh x."""
    return np.tanh(x)


def tanh_gradient(dy, x):
    """dx = dy (1 - tanh² x)."""
    return dy * (1 - np.tanh(x) ** 2)


def batchnorm(x, scale, shift, epsilon):
    """Normalise each unit over the batch: z = (x - mean) / sqrt(var + ε), y = scale z + shift (Ioffe and Szegedy 2015).

    Mean and (biased) variance are over all axes but the first and the last. Returns y, mean (S, C), variance (S, C).
    """
    axes = tuple(range(1, x.ndim - 1))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    return normalise(x, mean, variance, scale, shift, epsilon), mean, variance


def normalise(x, mean, variance, scale, shift, epsilon):
    """y = scale (x - mean) / sqrt(variance + ε) + shift with given statistics, all (S, C)."""
    factor = scale / np.sqrt(variance + epsilon)
    return x * _per_unit(factor, x) + _per_unit(shift - mean * factor, x)


def batchnorm_relu(x, scale, shift, epsilon, skip=None):
    """y = max(batchnorm(x) + skip, 0), skip of the shape of x or None. Returns y, mean (S, C), variance (S, C)."""
    y, mean, variance = batchnorm(x, scale, shift, epsilon)
    return relu(y if skip is None else y + skip), mean, variance


def normalise_relu(x, mean, variance, scale, shift, epsilon, skip=None):
    """y = max(normalise(x) + skip, 0), skip of the shape of x or None."""
    y = normalise(x, mean, variance, scale, shift, epsilon)
    return relu(y if skip is None else y + skip)


def batchnorm_relu_gradient(dy, x, mean, variance, scale, shift, epsilon):
    """Return dx, dscale, dshift of `batchnorm_relu` without a skip: `batchnorm_gradient` of dy [y > 0]."""
    dy = relu_gradient(dy, normalise(x, mean, variance, scale, shift, epsilon))
    return batchnorm_gradient(dy, x, mean, variance, scale, epsilon)


def batchnorm_gradient(dy, x, mean, variance, scale, epsilon):
    """Return dx, dscale, dshift of `batchnorm`.

    With z the normalised input and m the mean over the batch: dx = scale / sqrt(var + ε) (dy - m(dy) - z m(dy z)).
    """
    axes = tuple(range(1, x.ndim - 1))
    inverse = 1 / np.sqrt(variance + epsilon)
    z = (x - _per_unit(mean, x)) * _per_unit(inverse, x)
    dscale, dshift = (dy * z).sum(axis=axes), dy.sum(axis=axes)
    count = x[0, ..., 0].size
    dx = _per_unit(scale * inverse, x) * (dy - _per_unit(dshift, x) / count - z * _per_unit(dscale, x) / count)
    return dx, dscale, dshift


def follow(mean, variance, batch_mean, batch_variance, part, unbiased):
    """Move running statistics (S, C) in place by a part of the way to a batch's statistics.

    The targets are the batch's mean, and its variance times the factor `unbiased`.
    """
    mean += part * (batch_mean - mean)
    variance += part * (batch_variance * variance.dtype.type(unbiased) - variance)


def layernorm(x, scale, shift, epsilon):
    """Normalise each sample (and position) over its units: z = (x - mean) / sqrt(var + ε), y = scale z + shift.

    Ba, Kiros and Hinton 2016. scale and shift are (S, C).
    """
    z, _ = _over_units(x, epsilon)
    return z * _per_unit(scale, x) + _per_unit(shift, x)


def layernorm_gradient(dy, x, scale, epsilon):
    """Return dx, dscale, dshift of `layernorm`.

    With g = dy scale and m the mean over units: dx = (g - m(g) - z m(g z)) / sqrt(var + ε).
    """
    z, inverse = _over_units(x, epsilon)
    g = dy * _per_unit(scale, x)
    dx = (g - g.mean(axis=-1, keepdims=True) - z * (g * z).mean(axis=-1, keepdims=True)) * inverse
    return dx, unit_sums(dy * z), unit_sums(dy)


def cross_entropy(logits, labels, smoothing=0.0):
    """Softmax cross-entropy of each seed with the target (1 - smoothing) onehot + smoothing / K, mean over the samples.

    logits (S, N, K), labels (S or 1, N) integers -> loss (S,) float64, hits (S,) (samples whose largest logit is the
    label's), dlogits (S, N, K) = (softmax - target) / N. (Label smoothing: Szegedy et al. 2016.)
    """
    labels = np.broadcast_to(labels, logits.shape[:2])[..., None]
    target = np.full(logits.shape, smoothing / logits.shape[2], logits.dtype)
    np.put_along_axis(target, labels, np.take_along_axis(target, labels, -1) + (1 - smoothing), -1)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    loss = -(target * log_softmax).sum(axis=-1).mean(axis=1, dtype=np.float64)
    hits = (logits.argmax(axis=-1) == labels[..., 0]).sum(axis=1)
    return loss, hits, (np.exp(log_softmax) - target) / logits.shape[1]


def account(loss, hits, samples, alive, total_loss, total_hits):
    """Add a batch's loss and hits, (S,) each, to the sums of an epoch, in place.

    `alive` becomes False, also in place, for seeds whose loss is not finite. Returns a factor (S,) float64 for each
    seed's gradient: 1 if the seed is alive, else 0.
    """
    alive &= np.isfinite(loss)
    total_loss += loss * samples
    total_hits += hits
    return alive.astype(np.float64)


def clip(factor, squares, bound):
    """Multiply factor (S,) in place by min(1, bound / norm), or by 0 where this is NaN. squares (S,): squared norms.

    So the norm of each seed's gradient is at most the bound (Pascanu et al. 2013).
    """
    factor *= np.nan_to_num(bound / np.maximum(np.sqrt(squares), bound))


def sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay):
    """One step of SGD in place, on the flat parameters of all seeds (S, P).

    `counts` is (decayed, trained): the first `decayed` entries have weight decay, and the entries from `trained` on do
    not change. `factor` (S,) multiplies each seed's gradient (clipping). A seed with factor 0 does not change.
    g = factor gradient + decay θ; v = momentum v + g; θ -= rate (g + momentum v if nesterov else v). Velocity may be
    None if momentum is 0. The rate is one number for all seeds, or (S,). (Sutskever et al. 2013, in PyTorch's form.)
    """
    decayed, trained = counts
    rate = np.broadcast_to(rate, len(theta)).astype(theta.dtype)
    for s in np.flatnonzero(factor):
        parameter = theta[s, :trained]
        g = parameter.dtype.type(factor[s]) * gradient[s, :trained]
        g[:decayed] += decay * parameter[:decayed]
        if momentum:
            v = velocity[s, :trained]
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        parameter -= rate[s] * g


def adamw(theta, gradient, first, second, counts, rate, factor, step, beta1, beta2, epsilon, decay):
    """One step of AdamW in place (Loshchilov and Hutter 2019); `counts` and `factor` as in `sgd`, `step` from 1.

    Rate and step are numbers for all seeds, or (S,).
    m = β1 m + (1 - β1) g; v = β2 v + (1 - β2) g²; θ -= rate (m̂ / (sqrt(v̂) + ε) + decay θ), hats corrected for step.
    """
    decayed, trained = counts
    rates, steps = np.broadcast_to(rate, len(theta)), np.broadcast_to(step, len(theta))
    for s in np.flatnonzero(factor):
        rate, step = float(rates[s]), float(steps[s])
        parameter, m, v = theta[s, :trained], first[s, :trained], second[s, :trained]
        g = parameter.dtype.type(factor[s]) * gradient[s, :trained]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        parameter[:decayed] *= 1 - rate * decay
        parameter -= rate * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon)


def squared_norm(gradient, trained):
    """Sum of squares of the first `trained` entries of each seed: (S, P) -> (S,) float64."""
    return np.square(gradient[:, :trained], dtype=np.float64).sum(axis=1)


def rows(table, index):
    """Return table[index]: (M, ...), (S, N) -> (S, N, ...)."""
    return table[index]


def gather(images, index, moves, mean, inverse, hole=0):
    """Pick images, move, mirror, standardise, cut a hole: (image - mean) inverse, per channel; 0 in the hole.

    images (M, H, W, C), index (S, N), mean and inverse (C,) -> (S, N, H, W, C) in the type of `mean`. moves (S, N, 2):
    pixels down and right; pixels that enter the image are 0 before standardising. moves (S, N, 5) adds three numbers:
    whether left and right are then exchanged (1 or 0), and the row and column of the centre of a hole of hole x hole
    pixels, which may cross the border (DeVries and Taylor 2017).
    """
    picked = images[index].astype(mean.dtype)
    height, width = images.shape[1:3]
    rows, columns = np.arange(height) - moves[..., :1], np.arange(width) - moves[..., 1:2]
    if moves.shape[-1] > 2:
        columns = np.where(moves[..., 2:3] == 1, columns[..., ::-1], columns)
    inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[..., None, :]
    rows, columns = rows.clip(0, height - 1)[..., :, None, None], columns.clip(0, width - 1)[..., None, :, None]
    moved = np.take_along_axis(np.take_along_axis(picked, rows, 2), columns, 3) * inside[..., None]
    out = (moved - mean) * inverse
    if moves.shape[-1] > 2 and hole:
        top, left = moves[..., 3] - hole // 2, moves[..., 4] - hole // 2
        cut = _covers(top, hole, height)[..., :, None] & _covers(left, hole, width)[..., None, :]
        out[cut] = 0
    return out


def _covers(start, length, size):
    """Return whether each of `size` places lies in start ... start + length - 1: (S, N) -> (S, N, size)."""
    places = np.arange(size) - start[..., None]
    return (places >= 0) & (places < length)


def _pad(x, padding, value=0):
    """Return x (S, N, H, W, C) with a border of one value."""
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding), (0, 0))
    return np.pad(x, sides, constant_values=value)


def _seen(x, k, l, stride, size):
    """Return the view of padded x that the weight at (k, l) multiplies: (S, N, H', W', C) for size (H', W')."""
    return x[:, :, k : k + stride * (size[0] - 1) + 1 : stride, l : l + stride * (size[1] - 1) + 1 : stride]


def _rows(x):
    """View (or copy) (S, N, ..., C) as (S, R, C)."""
    return x.reshape(len(x), -1, x.shape[-1])


def _windows(x, size):
    """Return (S, N, H, W, C) as windows: (S, N, H', W', size², C)."""
    seeds, samples, height, width, units = x.shape
    split = x.reshape(seeds, samples, height // size, size, width // size, size, units)
    return split.swapaxes(3, 4).reshape(seeds, samples, height // size, width // size, size * size, units)


def _erf(x):
    from scipy.special import erf  # the import takes a third of a second, and only GELU needs it

    return erf(x)


def _splitmix(z):
    """Mix 64 bits: SplitMix64."""
    z = z + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * MIX1
    z = (z ^ (z >> np.uint64(27))) * MIX2
    return z ^ (z >> np.uint64(31))


def _per_unit(values, x):
    """View (S, C) values so that they broadcast over x (S, N, ..., C)."""
    return values.reshape(len(values), *(1,) * (x.ndim - 2), values.shape[-1])


def _over_units(x, epsilon):
    """Return x standardised over its last axis, and the inverse standard deviations."""
    inverse = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return (x - x.mean(axis=-1, keepdims=True)) * inverse, inverse
