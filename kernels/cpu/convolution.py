"""Convolutions as products of a dense layer: the patches that each output sees, a few images at a time (im2col).

Right for every kernel size, stride and padding. A chunk of images is a constant amount of work, so that the order of
every sum is the same for any number of threads and any grouping of seeds.
"""

import numpy as np

from basiscli.kernels.cpu import winograd
from basiscli.kernels.cpu.products import dense, dense_input_gradient, dense_weight_gradient
from basiscli.kernels.reference import _pad, _seen

# Patches of about this many floats are made at a time.
CHUNK = 1 << 22


def convolution(x, w, stride, padding):
    """y = x * w; see the reference."""
    seeds, height, width, _, outputs = w.shape
    size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], (height, width), strict=True))
    y = np.empty((seeds, x.shape[1], *size, outputs), np.float32)
    if winograd.serves(w.shape[1:], stride, padding):
        winograd.convolution(x, w, padding, y)
        return y
    matrix, no_bias = w.reshape(seeds, -1, outputs), np.zeros((seeds, outputs), np.float32)
    for part in _chunks(x.shape[1], size, matrix.shape[1]):
        patches = _patches(x[:, part], (height, width), stride, padding, size)
        y[:, part] = dense(patches, matrix, no_bias).reshape(seeds, -1, *size, outputs)
    return y


def convolution_input_gradient(dy, w, stride, padding, size):
    """dx; see the reference."""
    seeds, height, width, inputs, outputs = w.shape
    dx = np.empty((seeds, dy.shape[1], *size, inputs), np.float32)
    if winograd.serves(w.shape[1:], stride, padding):
        winograd.convolution_input_gradient(dy, w, padding, dx)
        return dx
    matrix = w.reshape(seeds, -1, outputs)
    for part in _chunks(dy.shape[1], dy.shape[2:4], matrix.shape[1]):
        few = np.ascontiguousarray(dy[:, part])
        dpatches = dense_input_gradient(few.reshape(seeds, -1, outputs), matrix)
        dpatches = dpatches.reshape(*few.shape[:4], height, width, inputs)
        padded = np.zeros((*few.shape[:2], size[0] + 2 * padding, size[1] + 2 * padding, inputs), np.float32)
        for k, l in np.ndindex(height, width):
            _seen(padded, k, l, stride, dy.shape[2:4])[...] += dpatches[..., k, l, :]
        dx[:, part] = padded[:, :, padding : padding + size[0], padding : padding + size[1]]
    return dx


def convolution_weight_gradient(x, dy, stride, padding, kernel, out=None):
    """dw; see the reference."""
    dw = np.empty((len(dy), *kernel, x.shape[-1], dy.shape[-1]), np.float32) if out is None else out
    if winograd.serves(dw.shape[1:], stride, padding):
        winograd.convolution_weight_gradient(x, dy, padding, dw)
        return dw
    dw[...] = 0
    for part in _chunks(dy.shape[1], dy.shape[2:4], dw[0, ..., 0].size):
        patches = _patches(x[:, part], kernel, stride, padding, dy.shape[2:4])
        few = np.ascontiguousarray(dy[:, part]).reshape(len(dy), -1, dy.shape[-1])
        dw += dense_weight_gradient(patches, few).reshape(dw.shape)
    return dw


def _chunks(samples, size, depth):
    """Cut the samples into runs whose patches have about CHUNK floats."""
    few = max(1, CHUNK // (size[0] * size[1] * depth))
    return [slice(start, start + few) for start in range(0, samples, few)]


def _patches(x, kernel, stride, padding, size):
    """Return what each output position sees: (S, N, H, W, I) -> (S, N H' W', KH KW I)."""
    x = _pad(x, padding)
    patches = np.empty((*x.shape[:2], *size, *kernel, x.shape[-1]), np.float32)
    for k, l in np.ndindex(*kernel):
        patches[..., k, l, :] = _seen(x, k, l, stride, size)
    return patches.reshape(len(x), -1, kernel[0] * kernel[1] * x.shape[-1])
