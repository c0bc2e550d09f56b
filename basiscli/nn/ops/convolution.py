"""y[i, j] = Σ_kl x[stride i + k - padding, stride j + l - padding] w[k, l] + b: the same map of units at all positions.

w (S, KH, KW, I, O), b (S, O) or absent. Derivation: docs/backprop/convolution.md.
"""

from math import sqrt

from basiscli import kernels
from basiscli.nn.ops.node import INPUTS, OUTPUTS, Weight, constant, normal


def weights(kernel: int, inputs: int, outputs: int, gain: float, bias: bool) -> dict[str, Weight]:
    """Return w, normal with deviation gain / sqrt(kernel² inputs) (He et al. 2015), and b, 0, if `bias`."""
    shape = (kernel, kernel, inputs, outputs)
    weights_of = {
        "w": Weight(shape, normal(gain / sqrt(kernel * kernel * inputs)), decays=True, axes=(INPUTS, OUTPUTS))
    }
    return weights_of | ({"b": Weight((outputs,), constant(0), axes=(OUTPUTS,))} if bias else {})


def forward(p, x, train, stride, padding):
    """y = x * w + b, with x = 0 outside of the image."""
    kernel = kernels.of(x)
    y = kernel.convolution(x, p["w"], stride, padding)
    return kernel.add_units(y, p["b"]) if "b" in p else y, (x, p["w"], stride, padding)


def backward(dy, cache, need_dx, dp):
    """dw[k, l] = Σ_nij x[n, stride i + k - padding, ...]ᵀ dy[n, i, j], db = Σ_nij dy, dx = the transposed map of dy."""
    x, w, stride, padding = cache
    kernel = kernels.of(dy)
    if "w" in dp:
        kernel.convolution_weight_gradient(x, dy, stride, padding, w.shape[1:3], dp["w"])
    if "b" in dp:
        kernel.unit_sums(dy, dp["b"])
    return kernel.convolution_input_gradient(dy, w, stride, padding, x.shape[2:4]) if need_dx else None
