"""What a network is made of: nodes, each an op with its inputs, and the weights that it needs.

An op is a module with two functions. S seeds, N samples, C units; activations are (S, N, ..., C).

    forward(p, x, train, **options) -> y, cache      p: the node's weights and state, by their short names
    backward(dy, cache, need_dx, dp) -> dx or None   fills dp: an array for each weight whose gradient is wanted
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True)
class Weight:
    """One array of a node, for one seed: its shape and how it starts.

    `draw(rng, shape)` gives the initial values. `decays`: weight decay applies (to matrices, not to biases and
    normalisation). `trained` is False for state, which the forward pass updates and no gradient reaches. `axes` says
    what its last axes hold: the INPUTS of a map, or the OUTPUTS, the units that the node gives.
    """

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    decays: bool = False
    trained: bool = True
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """An op applied to the outputs of other nodes ("input" is the network's). Its weights are `name/short name`.

    `shape` is that of its output for one sample, units last. `owner` names the weights where the node does not.
    """

    name: str
    op: ModuleType
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    owner: str | None = None

    @property
    def paths(self) -> dict[str, str]:
        """The path of each weight, by its short name."""
        return {name: f"{self.owner or self.name}/{name}" for name in self.weights}


def constant(value: float) -> Callable:
    """Return a `draw` that fills an array with one value."""
    return lambda rng, shape: np.full(shape, value)


def normal(deviation: float) -> Callable:
    """Return a `draw` of independent normal values of mean 0."""
    return lambda rng, shape: deviation * rng.standard_normal(shape)
