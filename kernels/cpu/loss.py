"""Softmax cross-entropy of all seeds, and the sums of an epoch; a task is one seed, so every sum has one order."""

import math

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import bits, doubles, floats, octets, power_of_two, real, words

# exp x = 2^n exp r with r = x - n ln 2, ln 2 in two parts, exp r by the polynomial of Cephes (Moshier 1989).
_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_C6, _C5, _C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C2, _C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_HALF, _ONE, _LOWEST = np.float32(0.5), np.float32(1), np.float32(-87)


def cross_entropy(logits, labels, smoothing=0.0):
    """Return loss (S,) float64, hits (S,) and dlogits (S, N, K); see the reference."""
    seeds, _, classes = logits.shape
    loss, hits, dlogits = empty((seeds,), np.float64), empty((seeds,), np.int64), empty(logits.shape)
    _cross_entropy(
        logits.ctypes.data, labels.ctypes.data, labels.strides[0] if len(labels) > 1 else 0, bits(1 - smoothing),
        bits(smoothing / classes), loss.ctypes.data, hits.ctypes.data, dlogits.ctypes.data, *logits.shape, seeds=seeds,
    )  # fmt: skip
    return loss, hits, dlogits


def account(loss, hits, samples, alive, total_loss, total_hits):
    """Add a batch to the sums of an epoch in place and return who goes on, (S,) float64; see the reference."""
    factor = empty(loss.shape, np.float64)
    addresses = (array.ctypes.data for array in (loss, hits, alive, total_loss, total_hits, factor))
    _account(*addresses, samples, len(loss), seeds=len(loss))
    return factor


@Kernel
def _account(worker, workers, arguments):
    loss, hits, alive, total_loss, total_hits, factor, samples, seeds = integers(arguments, 8)
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        value = doubles(loss, seeds)[s]
        if not np.isfinite(value):
            octets(alive, seeds)[s] = 0
        doubles(total_loss, seeds)[s] += value * samples
        words(total_hits, seeds)[s] += words(hits, seeds)[s]
        doubles(factor, seeds)[s] = octets(alive, seeds)[s]


@Kernel
def _cross_entropy(worker, workers, arguments):
    (
        logits, labels, labels_seed, extra_bits, share_bits, loss, hits, dlogits, seeds, samples, classes,
    ) = integers(arguments, 11)  # fmt: skip
    extra, part = real(extra_bits), real(share_bits)
    size = samples * classes
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        z, gradient = floats(logits + BYTES * s * size, size), floats(dlogits + BYTES * s * size, size)
        truth = words(labels + s * labels_seed, samples)
        along, correct = _shift(z, truth, classes, extra, part, gradient)
        _exponentials(gradient)
        doubles(loss, seeds)[s] = (_gradients(truth, classes, extra, part, gradient) - along) / samples
        words(hits, seeds)[s] = correct


@serial
def _shift(logits, labels, classes, extra, part, shifted):
    """Fill `shifted` with logits less the largest of a sample; return Σ_nk target shifted, and the hits."""
    total, correct = 0.0, 0
    for n in range(len(labels)):
        z, d = logits[n * classes : (n + 1) * classes], shifted[n * classes : (n + 1) * classes]
        best = 0
        for k in range(1, classes):
            if z[k] > z[best]:
                best = k
        largest, along = z[best], np.float32(0)
        for k in range(classes):
            d[k] = z[k] - largest
            along += d[k]
        total += extra * d[labels[n]] + part * along
        correct += best == labels[n]
    return total, correct


@serial
def _exponentials(values):
    for i in range(len(values)):
        values[i] = _exp(values[i])


@serial
def _gradients(labels, classes, extra, part, values):
    """Turn exp(logits - largest) into gradients in place; return Σ_n log Σ_k of them."""
    samples = np.float32(len(labels))
    total = 0.0
    for n in range(len(labels)):
        row = values[n * classes : (n + 1) * classes]
        normaliser = np.float32(0)
        for k in range(classes):
            normaliser += row[k]
        factor = _ONE / (normaliser * samples)
        for k in range(classes):
            row[k] = row[k] * factor - part / samples
        row[labels[n]] -= extra / samples
        total += math.log(normaliser)
    return total


@serial
def _exp(x):
    """exp x of a float32 that is not positive, within two units of the last place; NaN of NaN."""
    bounded = x if x > _LOWEST else _LOWEST
    n = np.floor(bounded * _LOG2E + _HALF)
    r = bounded - n * _LN2_HIGH - n * _LN2_LOW
    series = ((((_C6 * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r + _C1
    value = (series * (r * r) + r + _ONE) * power_of_two(np.int32(n))
    return value if x == x else x
