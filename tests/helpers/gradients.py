"""The gradient check: a directional derivative by central differences against an inner product, in float64."""

from collections.abc import Callable, Mapping

import numpy as np

from basiscli.rng import generator

STEP = 1e-6


def check_gradient(
    function: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    point: Mapping[str, np.ndarray],
    gradient: Mapping[str, np.ndarray],
    tolerance: float = 1e-6,
) -> None:
    """Assert that `gradient` is that of the scalar `function` at `point`, along one random direction of everything."""
    rng = generator(0, "direction")
    direction = {name: rng.standard_normal(values.shape) for name, values in point.items()}

    def along(t: float) -> float:
        return function({name: values + t * direction[name] for name, values in point.items()})

    numeric = (along(STEP) - along(-STEP)) / (2 * STEP)
    exact = sum(float((gradient[name] * direction[name]).sum()) for name in point)
    assert abs(numeric - exact) <= tolerance * max(1, abs(exact)), f"numeric {numeric}, backward {exact}"
