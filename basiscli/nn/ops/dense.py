"""y = x w + b: a linear map of the units, w (S, I, O), b (S, O). Derivation: docs/backprop/dense.md."""

from math import sqrt

from basiscli import kernels
from basiscli.nn.ops.node import INPUTS, OUTPUTS, Weight, constant, normal


def weights(inputs: int, outputs: int, gain: float) -> dict[str, Weight]:
    """Return w, normal with deviation gain / sqrt(inputs) (He et al. 2015), and b, 0."""
    return {
        "w": Weight((inputs, outputs), normal(gain / sqrt(inputs)), decays=True, axes=(INPUTS, OUTPUTS)),
        "b": Weight((outputs,), constant(0), axes=(OUTPUTS,)),
    }


def forward(p, x, train):
    """y = x w + b."""
    return kernels.of(x).dense(x, p["w"], p["b"]), (x, p["w"])


def backward(dy, cache, need_dx, dp):
    """dw = xᵀ dy, db = Σ_n dy, dx = dy wᵀ."""
    x, w = cache
    kernel = kernels.of(dy)
    if "w" in dp:
        kernel.dense_weight_gradient(x, dy, dp["w"])
    if "b" in dp:
        kernel.unit_sums(dy, dp["b"])
    return kernel.dense_input_gradient(dy, w) if need_dx else None
