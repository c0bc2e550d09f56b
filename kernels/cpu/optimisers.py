"""Optimiser steps over the flat parameters of all seeds, fused: every array is read and written once.

P parameters of a seed; a task is (seed, run of CHUNK parameters). Rates and counts of steps are one for each seed, in
memory, since they change from step to step while a recorded launch stays the same.
"""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.views import bits, doubles, floats, real

CHUNK = 16384
# A long sum runs in so many parts, which become a vector.
PARTIAL_SUMS = 32


def sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay):
    """One step of SGD in place; see the reference."""
    velocity = theta if velocity is None else velocity
    rate, factor = _per_seed(rate, theta), _per_seed(factor, theta)
    _sgd(
        *_flat(theta), *_flat(gradient), *_flat(velocity), *counts, rate.ctypes.data, factor.ctypes.data,
        bits(momentum), bool(nesterov), bits(decay), len(theta), seeds=len(theta),
    )  # fmt: skip


def adamw(theta, gradient, first, second, counts, rate, factor, step, beta1, beta2, epsilon, decay):
    """One step of AdamW in place; see the reference."""
    rate, factor, step = (_per_seed(values, theta) for values in (rate, factor, step))
    settings = constant([beta1, beta2, epsilon, decay], np.float64)
    addresses = (array.ctypes.data for array in (rate, factor, step, settings))
    _adamw(
        *_flat(theta), *_flat(gradient), *_flat(first), *_flat(second), *counts, *addresses, len(theta),
        seeds=len(theta),
    )  # fmt: skip


def squared_norm(gradient, trained):
    """Sum of squares of the first `trained` entries of each seed: (S, P) -> (S,) float64."""
    total = empty((len(gradient),), np.float64)
    _squared_norm(*_flat(gradient), trained, total.ctypes.data, len(gradient), seeds=len(gradient))
    return total


def clip(factor, squares, bound):
    """Multiply factor (S,) in place by min(1, bound / norm); see the reference."""
    limit = constant([bound], np.float64)
    _clip(factor.ctypes.data, squares.ctypes.data, limit.ctypes.data, len(factor), seeds=len(factor))


def _per_seed(values, theta):
    """Return one float64 for each seed."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64 and values.shape == (len(theta),):
        return values if values.flags.c_contiguous else values.copy()
    return np.full(len(theta), values, np.float64)


def _flat(array):
    """Return (address, stride over seeds in bytes) of (S, P)."""
    return array.ctypes.data, array.strides[0]


@Kernel
def _sgd(worker, workers, arguments):
    (
        theta, theta_seed, gradient, gradient_seed, velocity, velocity_seed, decayed, trained, rate, factor,
        momentum_bits, nesterov, decay_bits, seeds,
    ) = integers(arguments, 14)  # fmt: skip
    momentum, decay = real(momentum_bits), real(decay_bits)
    blocks = (trained + CHUNK - 1) // CHUNK
    begin, end = share(worker, workers, seeds * blocks)
    for task in range(begin, end):
        s, block = divmod(task, blocks)
        lr, own = np.float32(doubles(rate, seeds)[s]), np.float32(doubles(factor, seeds)[s])
        if own == 0:
            continue
        start, stop = block * CHUNK, min((block + 1) * CHUNK, trained)
        border = min(max(decayed, start), stop)
        # Slices and no branch inside the loops, so that LLVM turns each into vectors.
        parameters, gradients = floats(theta + s * theta_seed, trained), floats(gradient + s * gradient_seed, trained)
        velocities = floats(velocity + s * velocity_seed, trained)
        for low, high, shrink in ((start, border, decay), (border, stop, np.float32(0))):
            parameter, g, v = parameters[low:high], gradients[low:high], velocities[low:high]
            if momentum == 0:
                _plain_run(parameter, g, lr, own, shrink)
            elif nesterov:
                _nesterov_run(parameter, g, v, lr, own, momentum, shrink)
            else:
                _momentum_run(parameter, g, v, lr, own, momentum, shrink)


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


@Kernel
def _adamw(worker, workers, arguments):
    (
        theta, theta_seed, gradient, gradient_seed, first, first_seed, second, second_seed, decayed, trained,
        rate, factor, step, settings, seeds,
    ) = integers(arguments, 15)  # fmt: skip
    beta1, beta2, epsilon, decay = doubles(settings, 4)
    blocks = (trained + CHUNK - 1) // CHUNK
    begin, end = share(worker, workers, seeds * blocks)
    for task in range(begin, end):
        s, block = divmod(task, blocks)
        lr, own, number = doubles(rate, seeds)[s], np.float32(doubles(factor, seeds)[s]), doubles(step, seeds)[s]
        if own == 0:
            continue
        start, stop = block * CHUNK, min((block + 1) * CHUNK, trained)
        border = min(max(decayed, start), stop)
        corrected, correction = np.float32(lr / (1 - beta1**number)), np.float32(1 / np.sqrt(1 - beta2**number))
        gain1, gain2, small = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(epsilon)
        for low, high, kept in ((start, border, np.float32(1 - lr * decay)), (border, stop, np.float32(1))):
            parameter, g = floats(theta + s * theta_seed, high)[low:], floats(gradient + s * gradient_seed, high)[low:]
            m, v = floats(first + s * first_seed, high)[low:], floats(second + s * second_seed, high)[low:]
            _adamw_run(parameter, g, m, v, corrected, own, correction, gain1, gain2, small, kept)


@serial
def _adamw_run(parameter, gradient, m, v, rate, factor, correction, gain1, gain2, epsilon, kept):
    for i in range(len(parameter)):
        g = factor * gradient[i]
        m[i] += gain1 * (g - m[i])
        v[i] += gain2 * (g * g - v[i])
        parameter[i] = kept * parameter[i] - rate * m[i] / (np.sqrt(v[i]) * correction + epsilon)


@Kernel
def _squared_norm(worker, workers, arguments):
    # One task a seed: the sum has one order. Where it is used (clipping), a seed's gradient fits the cache.
    gradient, gradient_seed, trained, total, seeds = integers(arguments, 5)
    begin, end = share(worker, workers, seeds)
    for s in range(begin, end):
        doubles(total, seeds)[s] = _squares(floats(gradient + s * gradient_seed, trained))


@serial
def _squares(values):
    partial = np.zeros(PARTIAL_SUMS)
    whole = len(values) // PARTIAL_SUMS * PARTIAL_SUMS
    for start in range(0, whole, PARTIAL_SUMS):
        for lane in range(PARTIAL_SUMS):
            g = np.float64(values[start + lane])
            partial[lane] += g * g
    for i in range(whole, len(values)):
        g = np.float64(values[i])
        partial[0] += g * g
    return partial.sum()


@Kernel
def _clip(worker, workers, arguments):
    factor, squares, limit, seeds = integers(arguments, 4)
    begin, end = share(worker, workers, seeds)
    for s in range(begin, end):
        bound, norm = doubles(limit, 1)[0], np.sqrt(doubles(squares, seeds)[s])
        if not norm <= bound:
            doubles(factor, seeds)[s] *= bound / norm if norm > bound else 0.0  # of a norm that is NaN, nothing
