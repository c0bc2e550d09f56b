"""Compiled kernels for float32 arrays on the host: the names, shapes and meanings of basiscli.kernels.reference.

A kernel's module is imported when the kernel is first used: those of convolutions take a tenth of a second.
"""

import importlib

HOMES = {
    "convolutions": ("convolution", "convolution_input_gradient", "convolution_weight_gradient"),
    "images": ("gather", "rows"),
    "loss": ("account", "cross_entropy"),
    "normalisation": (
        "add_units",
        "batchnorm",
        "batchnorm_gradient",
        "batchnorm_relu",
        "batchnorm_relu_gradient",
        "follow",
        "layernorm",
        "layernorm_gradient",
        "normalise",
        "normalise_relu",
        "put",
        "unit_sums",
    ),
    "optimisers": ("adamw", "clip", "sgd", "squared_norm"),
    "pointwise": (
        "add",
        "dropout",
        "gelu",
        "gelu_gradient",
        "next_mask",
        "relu",
        "relu_gradient",
        "tanh",
        "tanh_gradient",
    ),
    "pooling": (
        "average_pool",
        "average_pool_gradient",
        "global_pool",
        "global_pool_gradient",
        "max_pool",
        "max_pool_gradient",
        "subsample",
        "subsample_gradient",
    ),
    "powers": ("power_sums",),
    "products": ("dense", "dense_input_gradient", "dense_weight_gradient"),
}
_HOME = {name: module for module, names in HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    kernel = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = kernel
    return kernel
