"""The definition of every kernel in numpy. S seeds, N samples, I input units, O output units, C units.

Activations are (S, N, ..., C), dense weights (S, I, O). An input with S = 1 is shared by all seeds.
"""

import numpy as np
from scipy.special import erf

SQRT2 = np.sqrt(2.0)


def dense(x, w, b):
    """y = x w + b: (S or 1, N, I), (S, I, O), (S, O) -> (S, N, O)."""
    return np.matmul(x, w) + b[:, None]


def dense_input_gradient(dy, w):
    """dx = dy wᵀ: (S, N, O), (S, I, O) -> (S, N, I)."""
    return np.matmul(dy, w.swapaxes(1, 2))


def dense_weight_gradient(x, dy, out=None):
    """dw = xᵀ dy: (S or 1, N, I), (S, N, O) -> (S, I, O), into `out` where it is given."""
    return np.matmul(np.broadcast_to(x, (len(dy), *x.shape[1:])).swapaxes(1, 2), dy, out=out)


def unit_sums(dy, out=None):
    """Sum over all axes but the first and the last: (S, N, ..., C) -> (S, C)."""
    return dy.sum(axis=tuple(range(1, dy.ndim - 1)), out=out)


def relu(x):
    """y = max(x, 0)."""
    return np.where(x < 0, 0, x).astype(x.dtype)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return np.where(x > 0, dy, 0).astype(dy.dtype)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, the exact form)."""
    return (0.5 * x * (1 + erf(x / SQRT2))).astype(x.dtype)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return (dy * (0.5 * (1 + erf(x / SQRT2)) + x * density)).astype(dy.dtype)


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


def cross_entropy(logits, labels):
    """Softmax cross-entropy of each seed, mean over the samples.

    logits (S, N, K), labels (S or 1, N) integers -> loss (S,) float64, hits (S,) (samples whose largest logit is the
    label's), dlogits (S, N, K) = (softmax - onehot) / N.
    """
    labels = np.broadcast_to(labels, logits.shape[:2])[..., None]
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    loss = (log_sum - np.take_along_axis(shifted, labels, -1))[..., 0].mean(axis=1, dtype=np.float64)
    dlogits = np.exp(shifted - log_sum)
    np.put_along_axis(dlogits, labels, np.take_along_axis(dlogits, labels, -1) - 1, -1)
    hits = (logits.argmax(axis=-1) == labels[..., 0]).sum(axis=1)
    return loss, hits, dlogits / logits.shape[1]


def sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay):
    """One step of SGD in place, on the flat parameters of all seeds (S, P).

    `counts` is (decayed, trained): the first `decayed` entries have weight decay, those from `trained` on stay as they
    are. `factor` (S,) multiplies each seed's gradient (clipping); a factor of 0 leaves that seed untouched.
    g = factor gradient + decay θ; v = momentum v + g; θ -= rate (g + momentum v if nesterov else v). Velocity may be
    None where momentum is 0. (Sutskever et al. 2013, in PyTorch's form.)
    """
    decayed, trained = counts
    for s in np.flatnonzero(factor):
        parameter = theta[s, :trained]
        g = parameter.dtype.type(factor[s]) * gradient[s, :trained]
        g[:decayed] += decay * parameter[:decayed]
        if momentum:
            v = velocity[s, :trained]
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        parameter -= rate * g


def adamw(theta, gradient, first, second, counts, rate, factor, step, beta1, beta2, epsilon, decay):
    """One step of AdamW in place (Loshchilov and Hutter 2019); `counts` and `factor` as in `sgd`, `step` from 1.

    m = β1 m + (1 - β1) g; v = β2 v + (1 - β2) g²; θ -= rate (m̂ / (sqrt(v̂) + ε) + decay θ), hats corrected for step.
    """
    decayed, trained = counts
    for s in np.flatnonzero(factor):
        parameter, m, v = theta[s, :trained], first[s, :trained], second[s, :trained]
        g = parameter.dtype.type(factor[s]) * gradient[s, :trained]
        m += (1 - beta1) * (g - m)
        v += (1 - beta2) * (g * g - v)
        parameter[:decayed] *= 1 - rate * decay
        parameter -= rate * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon)


def squared_norm(gradient, trained):
    """Sum of squares of the first `trained` entries of each seed: (S, P) -> (S,) float64."""
    return np.square(gradient[:, :trained], dtype=np.float64).sum(axis=1)


def gather(images, index, shifts, mean, inverse):
    """Pick images, move each by whole pixels (what enters is 0), standardise: (image - mean) inverse, per channel.

    images (M, H, W, C), index (S, N), shifts (S, N, 2) rows and columns down and right, mean and inverse (C,)
    -> (S, N, H, W, C) in the type of `mean`.
    """
    picked = images[index].astype(mean.dtype)
    height, width = images.shape[1:3]
    rows = np.arange(height) - shifts[..., :1]
    columns = np.arange(width) - shifts[..., 1:]
    inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[..., None, :]
    rows, columns = rows.clip(0, height - 1)[..., :, None, None], columns.clip(0, width - 1)[..., None, :, None]
    moved = np.take_along_axis(np.take_along_axis(picked, rows, 2), columns, 3) * inside[..., None]
    return (moved - mean) * inverse


def _per_unit(values, x):
    """View (S, C) values so that they broadcast over x (S, N, ..., C)."""
    return values.reshape(len(values), *(1,) * (x.ndim - 2), values.shape[-1])


def _over_units(x, epsilon):
    """Return x standardised over its last axis, and the inverse standard deviations."""
    inverse = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return (x - x.mean(axis=-1, keepdims=True)) * inverse, inverse
