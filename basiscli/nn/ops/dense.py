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


def forward(p, x, train, rectify=False, masks=False, masked=False):
    """y = x w + b, or max(x w + b, 0) with `rectify`, which fusion sets where a ReLU follows (nn/fusion.py).

    masks: x was rectified, so `backward` sets dx to 0 where x is 0. masked: the dy that comes back is 0 where y is 0.
    """
    y = kernels.of(x).dense(x, p["w"], p["b"], rectify)
    return y, (x, p["w"], masks, y if rectify and not masked else None)


def backward(dy, cache, need_dx, dp):
    """dw = xᵀ dy, db = Σ_n dy, dx = dy wᵀ. If y was rectified, dy [y > 0] takes the place of dy."""
    x, w, masks, y = cache
    kernel = kernels.of(dy)
    if y is not None:
        dy = kernel.relu_gradient(dy, y)
    # Before dw: an optimiser may change w as soon as dw is known.
    dx = kernel.dense_input_gradient(dy, w, x if masks else None) if need_dx else None
    if "w" in dp:
        kernel.dense_weight_gradient(x, dy, dp["w"], dp.get("b"))
    elif "b" in dp:
        kernel.unit_sums(dy, dp["b"])
    return dx
