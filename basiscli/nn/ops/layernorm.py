"""y = scale (x - mean) / sqrt(var + ε) + shift, statistics over the units of a sample.

Derivation: docs/backprop/normalisation.md.
"""

from basiscli import kernels
from basiscli.nn.ops.node import OUTPUTS, Weight, constant

EPSILON = 1e-5


def weights(units: int) -> dict[str, Weight]:
    """Return scale (1) and shift (0)."""
    return {
        "scale": Weight((units,), constant(1), axes=(OUTPUTS,)),
        "shift": Weight((units,), constant(0), axes=(OUTPUTS,)),
    }


def forward(p, x, train):
    """Normalise every sample and position over its units (Ba, Kiros and Hinton 2016)."""
    return kernels.of(x).layernorm(x, p["scale"], p["shift"], EPSILON), (x, p["scale"])


def backward(dy, cache, need_dx, dp):
    """dx = (g - m(g) - z m(g z)) / sqrt(var + ε) with g = dy scale; dscale = Σ dy z, dshift = Σ dy."""
    x, scale = cache
    dx, dscale, dshift = kernels.of(dy).layernorm_gradient(dy, x, scale, EPSILON)
    for name, value in (("scale", dscale), ("shift", dshift)):
        if name in dp:
            kernels.of(dy).put(dp[name], value)
    return dx
