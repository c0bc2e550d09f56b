"""y = x w for every sample and position: a fixed map of the units. w (S, C, C) is state and never trained.

A sample is a row, since units come last: y = M x of a column x has w = Mᵀ. Derivation: docs/backprop/rotation.md.
"""

import numpy as np

from basiscli import kernels
from basiscli.nn.ops.node import INPUTS, OUTPUTS, Weight


def weights(units: int) -> dict[str, Weight]:
    """Return w, the identity until a caller sets another matrix."""
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
