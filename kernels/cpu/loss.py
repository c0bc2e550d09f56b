"""Softmax cross-entropy of all seeds; a task is one seed, so the sum over samples has one order."""

import math

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel


def cross_entropy(logits, labels, smoothing=0.0):
    """Return loss (S,) float64, hits (S,) and dlogits (S, N, K); see the reference."""
    seeds = len(logits)
    loss, hits, dlogits = np.empty(seeds), np.empty(seeds, np.int64), np.empty_like(logits)
    _cross_entropy(logits, labels, smoothing, loss, hits, dlogits)
    return loss, hits, dlogits


@parallel
def _cross_entropy(logits, labels, smoothing, loss, hits, dlogits):
    seeds, samples, classes = logits.shape
    # What the target gives to the label beyond the share of every class.
    extra, share = np.float32(1 - smoothing), np.float32(smoothing / classes)
    for task in prange(seeds):
        s = np.int64(task)
        label_row = s if len(labels) > 1 else 0
        total, correct = 0.0, 0
        for n in range(samples):
            label = labels[label_row, n]
            best = 0
            for k in range(1, classes):
                if logits[s, n, k] > logits[s, n, best]:
                    best = k
            normaliser = np.float32(0)
            for k in range(classes):
                e = np.float32(math.exp(logits[s, n, k] - logits[s, n, best]))
                dlogits[s, n, k] = e
                normaliser += e
            factor = np.float32(1) / (normaliser * np.float32(samples))
            along = extra * (logits[s, n, label] - logits[s, n, best])
            for k in range(classes):
                dlogits[s, n, k] = dlogits[s, n, k] * factor - share / np.float32(samples)
                along += share * (logits[s, n, k] - logits[s, n, best])
            dlogits[s, n, label] -= extra / np.float32(samples)
            total += math.log(normaliser) - along
            correct += best == label
        loss[s] = total / samples
        hits[s] = correct
