"""Compiled kernels for float32 arrays on the host: the names, shapes and meanings of basiscli.kernels.reference."""

from basiscli.kernels.cpu.convolution import (
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from basiscli.kernels.cpu.images import gather
from basiscli.kernels.cpu.loss import cross_entropy
from basiscli.kernels.cpu.normalisation import (
    add_units,
    batchnorm,
    batchnorm_gradient,
    batchnorm_relu,
    batchnorm_relu_gradient,
    layernorm,
    layernorm_gradient,
    normalise,
    normalise_relu,
    unit_sums,
)
from basiscli.kernels.cpu.optimisers import adamw, sgd, squared_norm
from basiscli.kernels.cpu.pointwise import (
    add,
    dropout,
    gelu,
    gelu_gradient,
    relu,
    relu_gradient,
    tanh,
    tanh_gradient,
)
from basiscli.kernels.cpu.pooling import (
    average_pool,
    average_pool_gradient,
    global_pool,
    global_pool_gradient,
    max_pool,
    max_pool_gradient,
    subsample,
    subsample_gradient,
)
from basiscli.kernels.cpu.products import dense, dense_input_gradient, dense_weight_gradient

__all__ = [
    "adamw",
    "add",
    "add_units",
    "average_pool",
    "average_pool_gradient",
    "batchnorm",
    "batchnorm_gradient",
    "batchnorm_relu",
    "batchnorm_relu_gradient",
    "convolution",
    "convolution_input_gradient",
    "convolution_weight_gradient",
    "cross_entropy",
    "dense",
    "dense_input_gradient",
    "dense_weight_gradient",
    "dropout",
    "gather",
    "gelu",
    "gelu_gradient",
    "global_pool",
    "global_pool_gradient",
    "layernorm",
    "layernorm_gradient",
    "max_pool",
    "max_pool_gradient",
    "normalise",
    "normalise_relu",
    "relu",
    "relu_gradient",
    "sgd",
    "squared_norm",
    "subsample",
    "subsample_gradient",
    "tanh",
    "tanh_gradient",
    "unit_sums",
]
