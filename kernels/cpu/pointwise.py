"""Nonlinearities, element by element; a task is a run of at most CHUNK elements of a seed."""

import math

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import bits, floats, real
from basiscli.kernels.reference import DROPOUT_BITS
from basiscli.kernels.reference import _splitmix as reference_splitmix

CHUNK = 16384
_splitmix = serial(reference_splitmix)
RELU, GELU, TANH, RELU_GRADIENT, GELU_GRADIENT, TANH_GRADIENT, ADD = range(7)
_INVERSE_SQRT2 = np.float32(1 / math.sqrt(2))
_DENSITY_AT_0 = np.float32(1 / math.sqrt(2 * math.pi))


def relu(x):
    """y = max(x, 0)."""
    return _map(RELU, x, x)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return _map(RELU_GRADIENT, dy, x)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, the exact form)."""
    return _map(GELU, x, x)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    return _map(GELU_GRADIENT, dy, x)


def tanh(x):
    """y = tanh x."""
    return _map(TANH, x, x)


def tanh_gradient(dy, x):
    """dx = dy (1 - tanh² x)."""
    return _map(TANH_GRADIENT, dy, x)


def add(x, y):
    """x + y, of one shape."""
    return _map(ADD, x, y)


def dropout(x, stream, rate):
    """y = x / (1 - rate) where the stream keeps the element, else 0; see the reference."""
    x, y = _whole(x), empty(x.shape)
    seeds, size = len(x), x[0].size
    limit, factor = round(rate * 2**DROPOUT_BITS), bits(1 / (1 - rate))
    _dropout(x.ctypes.data, stream.ctypes.data, limit, factor, y.ctypes.data, seeds, size, seeds=seeds)
    return y


def next_mask(stream, period):
    """Count up a stream of masks in place; return it then; see the reference."""
    drawn = empty(stream.shape)
    _next_mask(stream.ctypes.data, stream.strides[0], drawn.ctypes.data, period, len(stream), seeds=len(stream))
    return drawn


def _map(kind, a, b):
    a, b, y = _whole(a), _whole(b), empty(a.shape)
    _run(kind, a.ctypes.data, b.ctypes.data, y.ctypes.data, len(a), a[0].size, seeds=len(a))
    return y


def _whole(x):
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


@Kernel
def _run(worker, workers, arguments):
    kind, a, b, y, seeds, size = integers(arguments, 6)
    chunks = (size + CHUNK - 1) // CHUNK
    first, last = share(worker, workers, seeds * chunks)
    for task in range(first, last):
        seed, chunk = divmod(task, chunks)
        place, count = BYTES * (seed * size + chunk * CHUNK), min(CHUNK, size - chunk * CHUNK)
        x, other, result = floats(a + place, count), floats(b + place, count), floats(y + place, count)
        if kind == RELU:
            _relu_run(x, result)
        elif kind == GELU:
            _gelu_run(x, result)
        elif kind == TANH:
            _tanh_run(x, result)
        elif kind == RELU_GRADIENT:
            _relu_gradient_run(x, other, result)
        elif kind == GELU_GRADIENT:
            _gelu_gradient_run(x, other, result)
        elif kind == TANH_GRADIENT:
            _tanh_gradient_run(x, other, result)
        else:
            _add_run(x, other, result)


@Kernel
def _next_mask(worker, workers, arguments):
    stream, stride, drawn, period, seeds = integers(arguments, 5)
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        words, copy = floats(stream + s * stride, 2), floats(drawn + 2 * BYTES * s, 2)
        words[1] = (np.int64(words[1]) + 1) % period
        copy[0], copy[1] = words[0], words[1]


@Kernel
def _dropout(worker, workers, arguments):
    x, stream, limit, factor, y, seeds, size = integers(arguments, 7)
    chunks = (size + CHUNK - 1) // CHUNK
    first, last = share(worker, workers, seeds * chunks)
    for task in range(first, last):
        seed, chunk = divmod(task, chunks)
        start, count = chunk * CHUNK, min(CHUNK, size - chunk * CHUNK)
        numbers = floats(stream + 2 * BYTES * seed, 2)
        begin = _splitmix((np.uint64(numbers[0]) << np.uint64(32)) + np.uint64(numbers[1]))
        place = BYTES * (seed * size + start)
        source, result = floats(x + place, count), floats(y + place, count)
        for i in range(count):
            random = _splitmix(begin + np.uint64(start + i)) >> np.uint64(64 - DROPOUT_BITS)
            result[i] = source[i] * real(factor) if random >= np.uint64(limit) else np.float32(0)


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


@serial
def _normal_distribution(x):
    return np.float32(0.5) * (np.float32(1) + np.float32(math.erf(x * _INVERSE_SQRT2)))
