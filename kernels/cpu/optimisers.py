"""Optimiser steps over the flat parameters of all seeds, fused: every array is read and written once.

P parameters of a seed; a task is (seed, run of CHUNK parameters).
"""

import math

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel, serial

CHUNK = 16384
# A long sum runs in so many parts, which become a vector.
PARTIAL_SUMS = 32
_NONE = np.empty((0, 0), np.float32)


def sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay):
    """One step of SGD in place; see the reference."""
    # Floats enter as float32: a float64 factor would drag every element through double precision.
    _sgd(
        theta, gradient, _NONE if velocity is None else velocity, *counts, np.float32(rate), factor.astype(np.float32),
        np.float32(momentum), nesterov, np.float32(decay),
    )  # fmt: skip


def adamw(theta, gradient, first, second, counts, rate, factor, step, beta1, beta2, epsilon, decay):
    """One step of AdamW in place; see the reference."""
    _adamw(
        theta, gradient, first, second, *counts, np.float32(rate / (1 - beta1**step)), factor.astype(np.float32),
        np.float32(1 / math.sqrt(1 - beta2**step)), np.float32(1 - beta1), np.float32(1 - beta2), np.float32(epsilon),
        np.float32(1 - rate * decay),
    )  # fmt: skip


def squared_norm(gradient, trained):
    """Sum of squares of the first `trained` entries of each seed: (S, P) -> (S,) float64."""
    total = np.empty(len(gradient))
    _squared_norm(gradient, trained, total)
    return total


@parallel
def _sgd(theta, gradient, velocity, decayed, trained, rate, factor, momentum, nesterov, decay):
    blocks = (trained + CHUNK - 1) // CHUNK
    for task in prange(len(theta) * blocks):
        s, block = divmod(np.int64(task), blocks)
        if factor[s] == 0:
            continue
        start, stop = block * CHUNK, min((block + 1) * CHUNK, trained)
        border = min(max(decayed, start), stop)
        for first, last, shrink in ((start, border, decay), (border, stop, np.float32(0))):
            # Slices and no branch inside the loops, so that LLVM turns each into vectors.
            parameter, g = theta[s, first:last], gradient[s, first:last]
            if momentum == 0:
                _plain_run(parameter, g, rate, factor[s], shrink)
            elif nesterov:
                _nesterov_run(parameter, g, velocity[s, first:last], rate, factor[s], momentum, shrink)
            else:
                _momentum_run(parameter, g, velocity[s, first:last], rate, factor[s], momentum, shrink)


@serial
def _plain_run(parameter, gradient, rate, factor, decay):
    for i in range(len(parameter)):
        parameter[i] -= rate * (factor * gradient[i] + decay * parameter[i])


@serial
def _momentum_run(parameter, gradient, velocity, rate, factor, momentum, decay):
    for i in range(len(parameter)):
        velocity[i] = momentum * velocity[i] + factor * gradient[i] + decay * parameter[i]
        parameter[i] -= rate * velocity[i]


@serial
def _nesterov_run(parameter, gradient, velocity, rate, factor, momentum, decay):
    for i in range(len(parameter)):
        g = factor * gradient[i] + decay * parameter[i]
        velocity[i] = momentum * velocity[i] + g
        parameter[i] -= rate * (g + momentum * velocity[i])


@parallel
def _adamw(theta, gradient, first, second, decayed, trained, rate, factor, correction, gain1, gain2, epsilon, shrink):
    blocks = (trained + CHUNK - 1) // CHUNK
    for task in prange(len(theta) * blocks):
        s, block = divmod(np.int64(task), blocks)
        if factor[s] == 0:
            continue
        start, stop = block * CHUNK, min((block + 1) * CHUNK, trained)
        border = min(max(decayed, start), stop)
        for low, high, kept in ((start, border, shrink), (border, stop, np.float32(1))):
            parameter, m, v = theta[s, low:high], first[s, low:high], second[s, low:high]
            _adamw_run(parameter, gradient[s, low:high], m, v, rate, factor[s], correction, gain1, gain2, epsilon, kept)


@serial
def _adamw_run(parameter, gradient, m, v, rate, factor, correction, gain1, gain2, epsilon, kept):
    for i in range(len(parameter)):
        g = factor * gradient[i]
        m[i] += gain1 * (g - m[i])
        v[i] += gain2 * (g * g - v[i])
        parameter[i] = kept * parameter[i] - rate * m[i] / (np.sqrt(v[i]) * correction + epsilon)


@parallel
def _squared_norm(gradient, trained, total):
    # One task a seed: the sum has one order. Where it is used (clipping), a seed's gradient fits the cache.
    for task in prange(len(gradient)):
        s = np.int64(task)
        partial = np.zeros(PARTIAL_SUMS)
        whole = trained // PARTIAL_SUMS * PARTIAL_SUMS
        for start in range(0, whole, PARTIAL_SUMS):
            for lane in range(PARTIAL_SUMS):
                g = np.float64(gradient[s, start + lane])
                partial[lane] += g * g
        for i in range(whole, trained):
            g = np.float64(gradient[s, i])
            partial[0] += g * g
        total[s] = partial.sum()
