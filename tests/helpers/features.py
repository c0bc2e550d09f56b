"""Activations with planted answers, and their moments."""

import numpy as np

from basiscli.analysis.accumulator import Accumulator
from basiscli.analysis.moments import Moments, halves


def moments_of(*tables: np.ndarray, norms: bool = False) -> Moments:
    """Return the full moments of some networks' activations (samples, units)."""
    accumulator = Accumulator(len(tables), full=True, norms=norms)
    accumulator.add([table.astype(np.float32) for table in tables])
    return accumulator.moments()


def split(*tables: np.ndarray, seed: int = 0, norms: bool = False) -> list[Moments]:
    """Return the full moments of two random halves of the samples."""
    second = halves(len(tables[0]), 1, seed)
    return [moments_of(*(table[chosen] for table in tables), norms=norms) for chosen in (~second, second)]


def relu_features(seed: int, rows: int = 400, units: int = 12, dimensions: int = 8) -> np.ndarray:
    """Return random ReLU features, correlated and sparse, of inputs of their own."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.standard_normal((rows, dimensions)) @ rng.standard_normal((dimensions, units)), 0)


def haar(units: int, seed: int) -> np.ndarray:
    """Return a random rotation or reflection."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((units, units)))
    return q * np.sign(np.diag(r))


def tables_of(seed: int, rows: int, units: list[int]) -> list[np.ndarray]:
    """Return tables (rows, units) in float32 whose units differ in mean and scale."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((rows, u)) * rng.uniform(0.1, 10, u) + rng.normal(size=u)).astype("f") for u in units]
