"""Nonlinearities, element by element; a task is a run of CHUNK elements."""

import math

import numpy as np
from basiscli.kernels.cpu.compiling import parallel, serial
from numba import prange

CHUNK = 16384
_INVERSE_SQRT2 = np.float32(1 / math.sqrt(2))
_DENSITY_AT_0 = np.float32(1 / math.sqrt(2 * math.pi))


def relu(x):
    """y = max(x, 0)."""
    return _map(_relu, x)


def relu_gradient(dy, x):
    """dx = dy [x > 0]."""
    return _map_gradient(_relu_gradient, dy, x)


def gelu(x):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016, the exact form)."""
    return _map(_gelu, x)


def gelu_gradient(dy, x):
    """dx = dy (Φ(x) + x φ(x)), φ the normal density."""
    return _map_gradient(_gelu_gradient, dy, x)


def tanh(x):
    """y = tanh x."""
    return _map(_tanh, x)


def tanh_gradient(dy, x):
    """dx = dy (1 - tanh² x)."""
    return _map_gradient(_tanh_gradient, dy, x)


def _map(kernel, x):
    y = np.empty_like(x)
    kernel(x.reshape(-1), y.reshape(-1))
    return y


def _map_gradient(kernel, dy, x):
    dx = np.empty_like(x)
    kernel(dy.reshape(-1), x.reshape(-1), dx.reshape(-1))
    return dx


def _over_chunks(function):
    """Return the parallel kernel y[i] = function(x[i])."""

    @parallel
    def kernel(x, y):
        for chunk in prange((x.size + CHUNK - 1) // CHUNK):
            start = np.int64(chunk) * CHUNK
            for i in range(start, min(start + CHUNK, x.size)):
                y[i] = function(x[i])

    return kernel


def _gradient_over_chunks(function):
    """Return the parallel kernel dx[i] = dy[i] function(x[i])."""

    @parallel
    def kernel(dy, x, dx):
        for chunk in prange((x.size + CHUNK - 1) // CHUNK):
            start = np.int64(chunk) * CHUNK
            for i in range(start, min(start + CHUNK, x.size)):
                dx[i] = dy[i] * function(x[i])

    return kernel


@serial
def _relu_value(x):
    # Written so that NaN stays NaN: a diverged seed must be seen.
    return np.float32(0) if x < 0 else x


@serial
def _relu_slope(x):
    return np.float32(1) if x > 0 else np.float32(0)


@serial
def _gelu_value(x):
    return np.float32(0.5) * x * (np.float32(1) + np.float32(math.erf(x * _INVERSE_SQRT2)))


@serial
def _gelu_slope(x):
    distribution = np.float32(0.5) * (np.float32(1) + np.float32(math.erf(x * _INVERSE_SQRT2)))
    return distribution + x * _DENSITY_AT_0 * np.float32(math.exp(np.float32(-0.5) * x * x))


@serial
def _tanh_value(x):
    return np.float32(math.tanh(x))


@serial
def _tanh_slope(x):
    y = np.float32(math.tanh(x))
    return np.float32(1) - y * y


_relu, _relu_gradient = _over_chunks(_relu_value), _gradient_over_chunks(_relu_slope)
_gelu, _gelu_gradient = _over_chunks(_gelu_value), _gradient_over_chunks(_gelu_slope)
_tanh, _tanh_gradient = _over_chunks(_tanh_value), _gradient_over_chunks(_tanh_slope)
