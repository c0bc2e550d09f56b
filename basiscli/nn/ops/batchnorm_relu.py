"""y = max(batchnorm(x) + skip, 0), skip optional: the work of three nodes with fewer passes over memory.

Only fusion makes nodes of this op, and only where no intermediate output is needed (Network.fused). Derivation:
docs/backprop/normalisation.md and pointwise.md.
"""

from basiscli import kernels
from basiscli.nn.ops.batchnorm import EPSILON, track


def forward(p, x, *skip, train):
    """Normalise as `batchnorm` does, add the skip if given, and rectify."""
    kernel = kernels.of(x)
    if not train:
        return kernel.normalise_relu(x, p["mean"], p["variance"], p["scale"], p["shift"], EPSILON, *skip), None
    y, mean, variance = kernel.batchnorm_relu(x, p["scale"], p["shift"], EPSILON, *skip)
    track(p, mean, variance, x[0, ..., 0].size)
    return y, (x, y if skip else None, mean, variance, p["scale"], p["shift"])


def backward(dy, cache, need_dx, dp):
    """g = dy [y > 0] is the gradient of the skip. dx follows from g as in `batchnorm`."""
    x, y, mean, variance, scale, shift = cache
    kernel = kernels.of(dy)
    if y is None:
        dx, dscale, dshift = kernel.batchnorm_relu_gradient(dy, x, mean, variance, scale, shift, EPSILON)
    else:
        g = kernel.relu_gradient(dy, y)
        dx, dscale, dshift = kernel.batchnorm_gradient(g, x, mean, variance, scale, EPSILON)
    for name, value in (("scale", dscale), ("shift", dshift)):
        if name in dp:
            kernels.of(dy).put(dp[name], value)
    return dx if y is None else (dx, g)
