"""Convolutions: Winograd's minimal filtering where it serves, the direct product everywhere else."""

import numpy as np

from basiscli.kernels.cpu import direct, winograd
from basiscli.kernels.cpu.memory import empty

# Images up to this size fill so little of Winograd's tiles that they save nothing.
SMALL = 2


def convolution(x, w, stride, padding):
    """y = w * x; see the reference."""
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:4], w.shape[1:3], strict=True)]
    x, w = _contiguous(x), _contiguous(w)
    y = empty((len(w), x.shape[1], *size, w.shape[4]))
    if winograd.serves(w.shape[1:], stride, padding) and max(size) > SMALL:
        winograd.convolution(x, w, padding, y)
    else:
        direct.convolution(x, w, stride, padding, y)
    return y


def convolution_input_gradient(dy, w, stride, padding, size):
    """dx, the gradient at inputs of size (H, W); see the reference."""
    dy, w = _contiguous(dy), _contiguous(w)
    dx = empty((len(w), dy.shape[1], *size, w.shape[3]))
    if winograd.serves(w.shape[1:], stride, padding) and max(size) > SMALL:
        winograd.convolution_input_gradient(dy, w, padding, dx)
    else:
        direct.convolution_input_gradient(dy, w, stride, padding, dx)
    return dx


def convolution_weight_gradient(x, dy, stride, padding, kernel, out=None):
    """dw, into `out` where it is given; see the reference."""
    x, dy = _contiguous(x), _contiguous(dy)
    dw = empty((len(dy), *kernel, x.shape[4], dy.shape[4])) if out is None else out
    if winograd.serves(dw.shape[1:], stride, padding):
        winograd.convolution_weight_gradient(x, dy, padding, dw)
    else:
        direct.convolution_weight_gradient(x, dy, stride, padding, dw)
    return dw


def _contiguous(array):
    """Return the array, copied unless each seed's part is C-contiguous float32 (the seeds may lie anywhere)."""
    whole = array.dtype == np.float32 and array[0].flags.c_contiguous
    return array if whole else np.ascontiguousarray(array, np.float32)
