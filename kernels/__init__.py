"""Kernels: the same functions for every kind of array; `of(array)` chooses the module that holds them.

A legend for all of them: S seeds, N samples, I input units, O output units, C units. Units are the last axis, seeds
the first. `reference` is plain numpy in any precision; it is the definition and the test of the others.
"""

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import numpy as np


def of(array: np.ndarray) -> ModuleType:
    """Return the kernels for an array: compiled ones for float32, the numpy reference for float64, and a GPU's own.

    The rule makes a gradient check in float64 a check of the definition, and keeps numba and cupy away until needed.
    """
    if on_gpu(array):
        return importlib.import_module("basiscli.kernels.gpu")
    fast = array.dtype == np.float32
    return importlib.import_module("basiscli.kernels.cpu" if fast else "basiscli.kernels.reference")


def exactly(array: object) -> AbstractContextManager:
    """Return a context in which products with an array are in float32, whatever else the precision on its GPU is."""
    if not on_gpu(array):
        return nullcontext()
    return importlib.import_module("basiscli.kernels.device").multiplying("float32")


def on_gpu(array: object) -> bool:
    """Return whether an array is cupy's; cupy is not imported for it."""
    return type(array).__module__.partition(".")[0] == "cupy"
