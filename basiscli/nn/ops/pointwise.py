"""y = φ(x), unit by unit; φ is "relu", "gelu", "tanh" or "linear" (the identity).

Derivation: docs/backprop/pointwise.md.
"""

from math import sqrt

from basiscli import kernels

# With this gain of the map before φ, the variance of activations stays about constant with depth. ReLU: He et al. 2015.
# GELU: the same, since GELU is nearly ReLU for the deviations met here. 1 for functions that are the identity near 0.
GAINS = {"relu": sqrt(2), "gelu": sqrt(2), "tanh": 1.0, "linear": 1.0}


def forward(p, x, train, function):
    """y = φ(x)."""
    return (x if function == "linear" else getattr(kernels.of(x), function)(x)), (x, function)


def backward(dy, cache, need_dx, dp):
    """dx = dy φ'(x)."""
    x, function = cache
    return dy if function == "linear" else getattr(kernels.of(dy), f"{function}_gradient")(dy, x)
