"""Compiled kernels for float32 arrays on the host: the names, shapes and meanings of basiscli.kernels.reference."""

from basiscli.kernels.cpu.images import gather
from basiscli.kernels.cpu.loss import cross_entropy
from basiscli.kernels.cpu.normalisation import (
    batchnorm,
    batchnorm_gradient,
    layernorm,
    layernorm_gradient,
    normalise,
    unit_sums,
)
from basiscli.kernels.cpu.optimisers import adamw, sgd, squared_norm
from basiscli.kernels.cpu.pointwise import gelu, gelu_gradient, relu, relu_gradient, tanh, tanh_gradient
from basiscli.kernels.cpu.products import dense, dense_input_gradient, dense_weight_gradient

__all__ = [
    "adamw",
    "batchnorm",
    "batchnorm_gradient",
    "cross_entropy",
    "dense",
    "dense_input_gradient",
    "dense_weight_gradient",
    "gather",
    "gelu",
    "gelu_gradient",
    "layernorm",
    "layernorm_gradient",
    "normalise",
    "relu",
    "relu_gradient",
    "sgd",
    "squared_norm",
    "tanh",
    "tanh_gradient",
    "unit_sums",
]
