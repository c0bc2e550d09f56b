"""Optimiser steps over the flat parameters of all seeds, fused: every array is read and written once.

P parameters of a seed; a task is (seed, run of CHUNK parameters).
"""

import math

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel

CHUNK = 16384
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
        scale = factor[s]
        for i in range(start, stop):
            g = scale * gradient[s, i]
            if i < decayed:
                g += decay * theta[s, i]
            if momentum != 0:
                v = momentum * velocity[s, i] + g
                velocity[s, i] = v
                g = g + momentum * v if nesterov else v
            theta[s, i] -= rate * g


@parallel
def _adamw(theta, gradient, first, second, decayed, trained, rate, factor, correction, gain1, gain2, epsilon, shrink):
    blocks = (trained + CHUNK - 1) // CHUNK
    for task in prange(len(theta) * blocks):
        s, block = divmod(np.int64(task), blocks)
        if factor[s] == 0:
            continue
        start, stop = block * CHUNK, min((block + 1) * CHUNK, trained)
        scale = factor[s]
        for i in range(start, stop):
            g = scale * gradient[s, i]
            m = first[s, i] + gain1 * (g - first[s, i])
            v = second[s, i] + gain2 * (g * g - second[s, i])
            first[s, i], second[s, i] = m, v
            kept = shrink * theta[s, i] if i < decayed else theta[s, i]
            theta[s, i] = kept - rate * m / (np.sqrt(v) * correction + epsilon)


@parallel
def _squared_norm(gradient, trained, total):
    # One task a seed: the sum has one order. Where it is used (clipping), a seed's gradient fits the cache.
    for task in prange(len(gradient)):
        s = np.int64(task)
        squares = 0.0
        for i in range(trained):
            squares += np.float64(gradient[s, i]) * np.float64(gradient[s, i])
        total[s] = squares
