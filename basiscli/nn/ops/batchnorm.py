"""y = scale (x - mean) / sqrt(var + ε) + shift, statistics over the batch.

Derivation: docs/backprop/normalisation.md.
"""

from basiscli import kernels
from basiscli.nn.ops.node import OUTPUTS, Weight, constant

EPSILON = 1e-5
MOMENTUM = 0.1


def weights(units: int) -> dict[str, Weight]:
    """Return scale (1) and shift (0), and the running mean (0) and variance (1), which are state."""
    return {
        "scale": Weight((units,), constant(1), axes=(OUTPUTS,)),
        "shift": Weight((units,), constant(0), axes=(OUTPUTS,)),
        "mean": Weight((units,), constant(0), trained=False, axes=(OUTPUTS,)),
        "variance": Weight((units,), constant(1), trained=False, axes=(OUTPUTS,)),
    }


def forward(p, x, train):
    """Normalise by the batch's statistics in training, by the running statistics in inference (Ioffe and Szegedy 2015).

    In training, the forward pass also moves the running statistics p["mean"] and p["variance"] towards the batch's.
    """
    kernel = kernels.of(x)
    if not train:
        return kernel.normalise(x, p["mean"], p["variance"], p["scale"], p["shift"], EPSILON), None
    y, mean, variance = kernel.batchnorm(x, p["scale"], p["shift"], EPSILON)
    track(p, mean, variance, x[0, ..., 0].size)
    return y, (x, mean, variance, p["scale"])


def track(p, mean, variance, count):
    """Move p["mean"] and p["variance"] by MOMENTUM towards a batch's mean and its unbiased variance."""
    kernels.of(mean).follow(p["mean"], p["variance"], mean, variance, MOMENTUM, count / max(count - 1, 1))


def backward(dy, cache, need_dx, dp):
    """dx = scale / sqrt(var + ε) (dy - m(dy) - z m(dy z)), dscale = Σ dy z, dshift = Σ dy."""
    x, mean, variance, scale = cache
    dx, dscale, dshift = kernels.of(dy).batchnorm_gradient(dy, x, mean, variance, scale, EPSILON)
    for name, value in (("scale", dscale), ("shift", dshift)):
        if name in dp:
            kernels.of(dy).put(dp[name], value)
    return dx
