"""y = x w for every sample and position: a fixed map of the units, w (S, C, C), state and never trained.

With units last a sample is a row: y = M x in the usual writing has w = Mᵀ. Derivation: docs/backprop/rotation.md.
"""

import numpy as np

from basiscli import kernels
from basiscli.nn.ops.node import INPUTS, OUTPUTS, Weight


def weights(units: int) -> dict[str, Weight]:
    """Return w, the identity until another matrix is put in its place."""
    return {"w": Weight((units, units), lambda rng, shape: np.eye(shape[0]), trained=False, axes=(INPUTS, OUTPUTS))}


def forward(p, x, train):
    """y = x w."""
    w = p["w"]
    y = kernels.of(x).dense(_rows(x), w, None)
    return y.reshape(len(w), *x.shape[1:]), w


def backward(dy, cache, need_dx, dp):
    """dx = dy wᵀ."""
    return kernels.of(dy).dense_input_gradient(_rows(dy), cache).reshape(dy.shape) if need_dx else None


def _rows(x):
    """Return x (S, N, ..., C) as (S, rows, C)."""
    return x.reshape(len(x), -1, x.shape[-1])
