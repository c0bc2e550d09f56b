"""Arrays in PyTorch's order of axes, and back.

PyTorch's images are (C, H, W), ours (H, W, C). A dense map there is (outputs, inputs), a convolution (outputs, inputs,
KH, KW); here outputs come last. A flattened image is in the order C, H, W there. Where a layout puts the zeros of
shortcut A on both sides of the units of the narrow stream, the units of the wide stream are numbered anew: those of
the narrow stream come first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from basiscli.errors import BadInput
from basiscli.foreign.checkpoints import Tensor, listed, require_memory, values
from basiscli.nn.graph import INPUT, Network
from basiscli.nn.ops import add, convolution, fixed_map, flatten, subsample
from basiscli.nn.ops.node import INPUTS, Node

# The tensor of each array of a node.
LEAVES = {
    "w": "weight", "b": "bias", "scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var",
}  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """The order of units in the arrays of a network, theirs against ours. centred: as `Layout.centred` says."""

    network: Network
    centred: bool = False

    def ours(self, node: Node, name: str, array: np.ndarray) -> np.ndarray:
        """Return an array of a node, `name` as "w", in our order."""
        if name == "w":
            array = self._units_last(node, array)
            places = {-2: node.inputs[0], -1: node.name}
        else:
            places = {-1: node.name}
        for axis, source in places.items():
            array = np.take(array, self.order(source, array.shape[axis]), axis)
        return np.ascontiguousarray(array)

    def theirs(self, node: Node, name: str, array: np.ndarray) -> np.ndarray:
        """Return an array of a node in PyTorch's order: the inverse of `ours`."""
        for axis, source in {-2: node.inputs[0], -1: node.name}.items() if name == "w" else {-1: node.name}.items():
            array = np.take(array, np.argsort(self.order(source, array.shape[axis])), axis)
        if name == "w":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            if node.op is fixed_map and len(node.shape) == 3:
                array = array[:, :, None, None]
        return np.ascontiguousarray(array)

    def shape(self, node: Node, name: str) -> tuple[int, ...]:
        """Return the shape of an array in PyTorch."""
        shape = node.weights[name].shape
        if name != "w":
            return shape
        if node.op is convolution:
            return shape[3], shape[2], *shape[:2]
        return (*shape[::-1], 1, 1) if node.op is fixed_map and len(node.shape) == 3 else shape[::-1]

    def order(self, node: str, units: int) -> np.ndarray:
        """Return by our units the numbers that they have in PyTorch, of the output of a node (or the input)."""
        flat = self._flat.get(node)
        if flat:
            height, width, channels = flat
            image = np.arange(units).reshape(channels, height, width).transpose(1, 2, 0)
            return image[..., self.order_of_image(node, channels)].ravel()
        return self.order_of_image(node, units)

    def order_of_image(self, node: str, units: int) -> np.ndarray:
        """Return `order` of the units of an image, before it is flattened."""
        found = self._orders.get(node)
        return np.arange(units) if found is None else found

    def _units_last(self, node: Node, array: np.ndarray) -> np.ndarray:
        if node.op is convolution:
            return array.transpose(2, 3, 1, 0)
        return array.reshape(array.shape[:2]).T

    @cached_property
    def _flat(self) -> dict[str, tuple[int, ...]]:
        """The shape (H, W, C) of the image that each node's vector of units was."""
        shapes = {node.name: node.shape for node in self.network.nodes}
        shapes[INPUT] = tuple(self.network.architecture["input_shape"])
        flat: dict[str, tuple[int, ...]] = {}
        for node in self.network.nodes:
            source = node.inputs[0]
            if node.op is flatten and len(shapes[source]) == 3:
                flat[node.name] = shapes[source]
            elif source in flat and not _makes_units(node):
                flat[node.name] = flat[source]
        return flat

    @cached_property
    def _orders(self) -> dict[str, np.ndarray]:
        """The order of every node whose units are numbered anew because of centred shortcuts."""
        orders: dict[str, np.ndarray] = {}
        nodes = {node.name: node for node in self.network.nodes}
        for node in self.network.nodes if self.centred else ():
            if node.op is subsample:
                units, inputs = node.shape[-1], nodes[node.inputs[0]].shape[-1]
                before = orders.get(node.inputs[0], np.arange(inputs)) + (units - inputs) // 2
                orders[node.name] = np.concatenate([before, np.setdiff1d(np.arange(units), before)])
            elif node.inputs[0] in orders and not _makes_units(node):
                orders[node.name] = orders[node.inputs[0]]
            if node.op is add and node.name in orders:
                branch = nodes[node.inputs[1]]
                while not _makes_units(branch):
                    orders[branch.name] = orders[node.name]
                    branch = nodes[branch.inputs[0]]
                orders[branch.name] = orders[node.name]
        return orders


def imported(path: str, axes: Axes, places: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the arrays of a network, float32, from the tensors of a checkpoint. places: the module of each node.

    Raises BadInput for tensors that are missing, surplus, of another shape or type, or not finite. A dense map without
    bias gets one of 0.
    """
    arrays: dict[str, np.ndarray] = {}
    used, missing = set(), []
    wanted = [(node, name) for node in axes.network.nodes if node.name in places for name in node.weights]
    require_memory(path, [node.weights[name].shape for node, name in wanted])
    for node, name in wanted:
        tensor = f"{places[node.name]}.{LEAVES[name]}"
        if tensor not in tensors and name == "b" and len(node.shape) == 1:
            arrays[node.paths[name]] = np.zeros(node.weights[name].shape, np.float32)
        elif tensor not in tensors:
            missing.append(tensor)
        else:
            _require_shape(path, axes, node, name, tensor, tensors[tensor].shape)
            used.add(tensor)
    if missing:
        raise BadInput(f"{path}: no {listed(missing)}; the checkpoint is not whole")
    if surplus := [name for name in tensors if name not in used]:
        raise BadInput(f"{path}: {listed(surplus)}: the network has no place for it; leave it out with `ignore`")
    for node, name in wanted:
        tensor = f"{places[node.name]}.{LEAVES[name]}"
        if tensor in used:
            arrays[node.paths[name]] = axes.ours(node, name, values(path, tensor, tensors[tensor]))
    return {path_: arrays[path_] if path_ in arrays else _start(axes.network, path_) for path_ in axes.network.weights}


def exported(axes: Axes, places: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a network by PyTorch's names, from its arrays without seed axis."""
    return {
        f"{places[node.name]}.{LEAVES[name]}": axes.theirs(node, name, arrays[node.paths[name]])
        for node in axes.network.nodes
        if node.name in places
        for name in node.weights
    }


def _require_shape(path: str, axes: Axes, node: Node, name: str, tensor: str, shape: tuple[int, ...]) -> None:
    wanted = axes.shape(node, name)
    if shape != wanted:
        images = "x".join(map(str, axes.network.architecture["input_shape"]))
        raise BadInput(f"{path}: {tensor} has the shape {shape}, not {wanted} (for images of {images})")


def _start(network: Network, path: str) -> np.ndarray:
    """Return an array that no checkpoint has: the random stream of dropout."""
    weight = network.weights[path]
    return weight.draw(np.random.default_rng(0), weight.shape).astype(np.float32)


def _makes_units(node: Node) -> bool:
    return any(INPUTS in weight.axes for weight in node.weights.values())
