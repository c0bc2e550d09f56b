"""The parts of a network: nodes, each an op with its inputs and weights.

An op is a module with two functions. S seeds, N samples, C units; activations are (S, N, ..., C).

    forward(p, x, train, **options) -> y, cache      p: the node's weights and state, by short name
    backward(dy, cache, need_dx, dp) -> dx or None   fills dp, which has an array for each wanted gradient
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True)
class Weight:
    """One array of a node, for one seed: its shape and its initial values.

    draw:    draw(rng, shape) returns the initial values
    decays:  whether weight decay applies (to matrices, not to biases and normalisation)
    trained: False for state, which has no gradient; the forward pass may update it
    axes:    the units along the last axes: INPUTS of a map, or OUTPUTS, the units of the node's output
    """

    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    decays: bool = False
    trained: bool = True
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """An op applied to the outputs of other nodes. "input" is the input of the network.

    The path of a weight is `name/short name`, or `owner/short name` if the node has an owner. `shape` is the shape of
    the output for one sample, units last.
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
