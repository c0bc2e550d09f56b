"""A network as a list of named nodes, with a forward and a backward pass. Activations are read at its layers.

S seeds, N samples, C units. Activations are (S, N, ..., C). The arrays of all weights and states are one flat dict:
the key is a path such as "hidden1/w", the value an array (S, ...).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from basiscli import kernels
from basiscli.device import placement
from basiscli.nn import fusion
from basiscli.nn.ops.node import Node, Weight

INPUT = "input"


@dataclass(frozen=True)
class Layer:
    """The taps of a layer, the nodes before (`pre`) and after (`post`) its nonlinearity, and its number of units."""

    pre: str
    post: str
    units: int


@dataclass(frozen=True)
class Network:
    """Nodes, each after the nodes that it reads. The last node gives the logits.

    architecture: the plain dict from which `models.build` makes the network. layers: the hidden layers, in order.
    """

    architecture: dict
    nodes: tuple[Node, ...]
    layers: Mapping[str, Layer]

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Every array of the network, state included, by path."""
        return {node.paths[name]: weight for node in self.nodes for name, weight in node.weights.items()}

    @cached_property
    def trained(self) -> list[str]:
        """The paths of the arrays that training may change. All other arrays are state."""
        return [path for path, weight in self.weights.items() if weight.trained]

    @cached_property
    def fused(self) -> tuple[Node, ...]:
        """The nodes after fusion (`fusion.fused`). Use them only where no activation is kept."""
        return fusion.fused(self.nodes)

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names of the outputs that the nodes read and none of the nodes gives.

        For a whole network: the input. For a part of a network: outputs of the nodes below this part, or the input.
        """
        return frozenset(fusion.readers(self.nodes)) - {node.name for node in self.nodes}

    def below(self, name: str) -> set[str]:
        """Return the names of a node and of all nodes from which its output is computed."""
        names = {name}
        for node in reversed(self.nodes):
            if node.name in names:
                names.update(node.inputs)
        return names - {INPUT}

    def tap(self, layer: str, where: str) -> str:
        """Return the node whose output is the activation of a layer at the tap `where`, "pre" or "post"."""
        return getattr(self.layers[layer], where)


def forward(
    network: Network,
    arrays: Mapping[str, np.ndarray],
    x: np.ndarray | Mapping[str, np.ndarray],
    train: bool = False,
    keep: Collection[str] = (),
    until: str | None = None,
    run: Callable[[Node, Mapping[str, np.ndarray], Sequence[np.ndarray]], np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray], dict]:
    """Compute the outputs of the nodes in order, up to the node `until` (None: all nodes).

    x: the input (S or 1, N, ...); for a part of a network, a dict of the outputs that it `reads`, by name.
    run: a function of a node, its arrays by short name and its inputs. It returns the node's output in inference, and
    may change these arrays. None: the node's own op.

    Returns the output of the last node computed, the outputs of the nodes named in `keep`, and the caches for
    `backward`: pairs of a node and its cache, by name (empty unless `train`). An output is dropped after its last use.
    """
    values = dict(x) if isinstance(x, Mapping) else {INPUT: x}
    kept, caches = {}, {}
    nodes = network.nodes if keep or until or run else network.fused
    waiting = fusion.readers(nodes)
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        local = {name: arrays[path] for name, path in node.paths.items()}
        y, cache = (run(node, local, inputs), None) if run else _apply(node, local, inputs, train)
        values[node.name] = y
        if train:
            caches[node.name] = node, cache
        if node.name in keep:
            kept[node.name] = y
        for name in node.inputs:
            waiting[name] -= 1
            if not waiting[name]:
                del values[name]
        if node.name == until:
            break
    return y, kept, caches


def predict(
    network: Network, arrays: Mapping[str, np.ndarray], images: np.ndarray, keep: Collection[str] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the logits of networks in inference and the outputs of the nodes in `keep`, on the host.

    Products are float32 on every device.
    """
    with placement.multiplying(placement.FLOAT32):
        y, kept, _ = forward(network, placement.tree_to_device(arrays), placement.to_device(images), keep=keep)
    return placement.to_host(y), {name: placement.to_host(values) for name, values in kept.items()}


def apply_node(node: Node, arrays: Mapping[str, np.ndarray], inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the output of a node in inference, from its arrays by their short names and its inputs."""
    return _apply(node, arrays, inputs, train=False)[0]


def backward(network: Network, caches: dict, dy: np.ndarray, dweights: Mapping[str, np.ndarray]) -> None:
    """Fill `dweights` with gradients, given the gradient dy at the logits.

    dweights: an array (S, ...) for each path whose gradient is wanted. Nodes below the lowest such path are skipped, so
    frozen layers at the bottom of a network cost no backward pass.
    """
    wanted = nodes_above((node for node, _ in caches.values()), dweights)
    gradients = {network.nodes[-1].name: dy}
    while caches:
        name, (node, cache) = caches.popitem()
        if name not in wanted:
            continue
        local = {name: dweights[path] for name, path in node.paths.items() if path in dweights}
        need_dx = any(name in wanted for name in node.inputs)
        dx = node.op.backward(gradients.pop(node.name), cache, need_dx, local)
        for name, gradient in zip(node.inputs, dx if isinstance(dx, tuple) else (dx,), strict=True):
            if name in wanted:
                present = gradients.get(name)
                gradients[name] = gradient if present is None else kernels.of(gradient).add(present, gradient)


def _apply(node: Node, arrays: Mapping[str, np.ndarray], inputs: Sequence[np.ndarray], train: bool) -> tuple:
    return node.op.forward(arrays, *inputs, train=train, **node.options)


def nodes_above(nodes: Iterable[Node], paths: Collection[str]) -> set[str]:
    """Return the names of the nodes that hold one of the weights `paths`, and of all nodes that depend on them."""
    wanted: set[str] = set()
    for node in nodes:
        if any(path in paths for path in node.paths.values()) or wanted & set(node.inputs):
            wanted.add(node.name)
    return wanted
