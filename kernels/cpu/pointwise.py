"""Nonlinearities, element by element; a task is a run of CHUNK elements.

One kernel holds all of them, since each parallel kernel costs more than a second to compile.
"""

import math

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel, serial
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.reference import DROPOUT_BITS
from basiscli.kernels.reference import _splitmix as reference_splitmix

CHUNK = 16384
_splitmix = serial(reference_splitmix)
RELU, GELU, TANH = range(3)
_INVERSE_SQRT2 = np.float32(1 / math.sqrt(2))
_DENSITY_AT_0 = np.float32(1 / math.sqrt(2 * math.pi))


def relu(x):
    """y = max(x, 0)."""
    return _map(RELU, x)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return _map_gradient(RELU, dy, x)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, the exact form)."""
    return _map(GELU, x)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    return _map_gradient(GELU, dy, x)


def tanh(x):
    """y = tanh x."""
    return _map(TANH, x)


def tanh_gradient(dy, x):
    """dx = dy (1 - tanh² x)."""
    return _map_gradient(TANH, dy, x)


def add(x, y):
    """x + y, of one shape."""
    out = empty(x.shape)
    _add(x.reshape(-1), y.reshape(-1), out.reshape(-1))
    return out


def dropout(x, stream, rate):
    """y = x / (1 - rate) where the stream keeps the element, else 0; see the reference."""
    y = empty(x.shape)
    _dropout(x.reshape(len(x), -1), stream.astype(np.uint64), rate, y.reshape(len(x), -1))
    return y


def _map(kind, x):
    y = empty(x.shape)
    _apply(kind, x.reshape(-1), y.reshape(-1))
    return y


def _map_gradient(kind, dy, x):
    dx = empty(x.shape)
    _apply_gradient(kind, dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


@parallel
def _apply(kind, x, y):
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        start = np.int64(chunk) * CHUNK
        stop = min(start + CHUNK, x.size)
        if kind == RELU:
            _relu_run(x[start:stop], y[start:stop])
        elif kind == GELU:
            _gelu_run(x[start:stop], y[start:stop])
        else:
            _tanh_run(x[start:stop], y[start:stop])


@parallel
def _apply_gradient(kind, dy, x, dx):
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        start = np.int64(chunk) * CHUNK
        stop = min(start + CHUNK, x.size)
        if kind == RELU:
            _relu_gradient_run(dy[start:stop], x[start:stop], dx[start:stop])
        elif kind == GELU:
            _gelu_gradient_run(dy[start:stop], x[start:stop], dx[start:stop])
        else:
            _tanh_gradient_run(dy[start:stop], x[start:stop], dx[start:stop])


# Each loop is a function of its own: LLVM makes vectors of them, and did not of the same loops in one function.


@serial
def _add_run(x, y, out):
    for i in range(len(out)):
        out[i] = x[i] + y[i]


@serial
def _relu_run(x, y):
    for i in range(len(y)):
        # Written so that NaN stays NaN: a diverged seed must be seen.
        y[i] = np.float32(0) if x[i] < 0 else x[i]


@serial
def _relu_gradient_run(dy, x, dx):
    for i in range(len(dx)):
        gradient = dy[i]
        dx[i] = gradient if x[i] > 0 else np.float32(0)


@serial
def _gelu_run(x, y):
    for i in range(len(y)):
        y[i] = x[i] * _normal_distribution(x[i])


@serial
def _gelu_gradient_run(dy, x, dx):
    for i in range(len(dx)):
        density = _DENSITY_AT_0 * np.float32(math.exp(np.float32(-0.5) * x[i] * x[i]))
        dx[i] = dy[i] * (_normal_distribution(x[i]) + x[i] * density)


@serial
def _tanh_run(x, y):
    for i in range(len(y)):
        y[i] = np.float32(math.tanh(x[i]))


@serial
def _tanh_gradient_run(dy, x, dx):
    for i in range(len(dx)):
        tanh_x = np.float32(math.tanh(x[i]))
        dx[i] = dy[i] * (np.float32(1) - tanh_x * tanh_x)


@parallel
def _add(x, y, out):
    for chunk in prange((x.size + CHUNK - 1) // CHUNK):
        start = np.int64(chunk) * CHUNK
        stop = min(start + CHUNK, x.size)
        _add_run(x[start:stop], y[start:stop], out[start:stop])


@parallel
def _dropout(x, stream, rate, y):
    seeds, size = x.shape
    chunks = (size + CHUNK - 1) // CHUNK
    limit = np.uint64(round(rate * 2**DROPOUT_BITS))
    factor = np.float32(1 / (1 - rate))
    for task in prange(seeds * chunks):
        s, chunk = divmod(np.int64(task), chunks)
        first = _splitmix((stream[s, 0] << np.uint64(32)) + stream[s, 1])
        for i in range(chunk * CHUNK, min((chunk + 1) * CHUNK, size)):
            bits = _splitmix(first + np.uint64(i)) >> np.uint64(64 - DROPOUT_BITS)
            y[s, i] = x[s, i] * factor if bits >= limit else np.float32(0)


@serial
def _normal_distribution(x):
    return np.float32(0.5) * (np.float32(1) + np.float32(math.erf(x * _INVERSE_SQRT2)))
