"""Unit groups, derived from the graph of a network, and networks with permuted or rotated units.

S seeds, U units of a group. A group is a set of units that one permutation must move wherever they appear: in the map
that makes them, in the normalisation, and in every map that reads them. Along a residual stream, every branch that is
added to the stream belongs to the same group. The units of the input and of the logits have a fixed meaning, so they
belong to no group.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np

from basiscli.errors import BadInput
from basiscli.nn.graph import INPUT, Network
from basiscli.nn.ops import add, subsample
from basiscli.nn.ops.node import INPUTS, Node


@dataclass(frozen=True)
class Segment:
    """The part start to stop of an axis. It holds all units of a group, in its order; group None: units of no group."""

    group: str | None
    start: int
    stop: int


@dataclass(frozen=True)
class Axis:
    """An axis of units: segments one after another, `repeat` times (a flattened image repeats its units).

    reads: whether the array reads the units along this axis, as the input of a map. Otherwise it makes or scales them.
    """

    segments: tuple[Segment, ...]
    repeat: int = 1
    reads: bool = False

    @property
    def units(self) -> int:
        """The number of units before any repetition."""
        return self.segments[-1].stop

    def groups(self) -> list[str]:
        """Return the groups along the axis."""
        return [segment.group for segment in self.segments if segment.group is not None]


@dataclass(frozen=True)
class UnitGroups:
    """The groups of a network.

    groups:  the number of units of each group. A group has the name of the first layer that holds it. If this layer
             also holds units of other groups, the name says which units are meant: `block4/sum[16:32]`
    axes:    by path, the axes that hold units, counted from the end: -1, -2
    outputs: by node, the axis of units of its output
    layers:  by layer, its segments
    """

    groups: Mapping[str, int]
    axes: Mapping[str, Mapping[int, Axis]]
    outputs: Mapping[str, Axis]
    layers: Mapping[str, tuple[Segment, ...]]

    def paths(self, group: str) -> Iterator[tuple[str, int, Axis]]:
        """Yield (path, axis number, axis) for every axis that holds units of a group."""
        for path, axes in self.axes.items():
            for place, axis in axes.items():
                if group in axis.groups():
                    yield path, place, axis


def unit_groups(network: Network) -> UnitGroups:
    """Return the groups of a network.

    Every map makes new units. An addition ties the units of its inputs, pair by pair. Every other op passes its units
    on. Tied units count as the same unit. Units that appear on the same axes form a group.
    """
    labels, ties = _labelled(network)
    identity = _identities(labels, ties)
    names = {name: identity[label] for name, label in labels.items()}
    fixed = np.union1d(names[INPUT], names[network.nodes[-1].name])
    kinds = _kinds(names.values(), fixed)
    groups: dict[int, tuple[str, int]] = {}
    for layer, place in network.layers.items():
        for kind, start, stop in _runs(kinds[names[place.pre]]):
            whole = (start, stop) == (0, place.units)
            if kind:
                groups.setdefault(kind, (layer if whole else f"{layer}[{start}:{stop}]", stop - start))

    def axis(units: np.ndarray, repeat: int = 1, reads: bool = False) -> Axis:
        runs = _runs(kinds[units])
        named = [Segment(groups[kind][0] if kind in groups else None, *ends) for kind, *ends in runs]
        return Axis(tuple(named), repeat, reads)

    def axes(node: Node, weight: str) -> dict[int, Axis]:
        held, shape = node.weights[weight].axes, node.weights[weight].shape
        units = [names[node.inputs[0] if what == INPUTS else node.name] for what in held]
        return {
            place: axis(units[place], shape[place] // len(units[place]), held[place] == INPUTS)
            for place in range(-len(held), 0)
        }

    return UnitGroups(
        dict(groups.values()),
        {node.paths[name]: axes(node, name) for node in network.nodes for name in node.weights},
        {node.name: axis(names[node.name], node.shape[-1] // len(names[node.name])) for node in network.nodes},
        {layer: axis(names[place.pre]).segments for layer, place in network.layers.items()},
    )


def permute_units(
    basis: UnitGroups, arrays: Mapping[str, np.ndarray], permutations: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return arrays (S, ...) of networks with the units of groups in another order. They compute the same function.

    permutations: (S, U) by group. Unit i of the new network is unit p[i] of the old network. Other groups stay as they
    are. Raises BadInput for an array that is no permutation of its group.
    """
    for group, p in permutations.items():
        _require_group(basis, group, p.shape[-1])
        if not (np.sort(p, axis=-1) == np.arange(basis.groups[group])).all():
            raise BadInput(f"{group}: not a permutation of its {basis.groups[group]} units")
    return _changed(basis, arrays, permutations, lambda part, group, reads: _taken(part, permutations[group]))


def rotate_units(
    basis: UnitGroups, arrays: Mapping[str, np.ndarray], matrices: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return arrays (S, ...) of networks whose maps make y' = M y instead of y. Maps that read y' apply M⁻¹ first.

    matrices: (S, U, U) by group. The function stays the same if only linear maps lie between the maps that make units
    and the maps that read them, or if the nonlinearity commutes with M (ReLU: permutations times positive scales).
    Raises BadInput for a group that a normalisation scales: scales and statistics belong to single units and cannot be
    rotated.
    """
    for group, m in matrices.items():
        _require_group(basis, group, m.shape[-1])
        for path, place, _ in basis.paths(group):
            if place == -1 and path.rpartition("/")[2] in ("scale", "variance"):
                raise BadInput(f"{group}: {path} scales single units, which a rotation mixes; take `norm` none")
    readers = {group: np.linalg.inv(m).swapaxes(1, 2) for group, m in matrices.items()}
    return _changed(
        basis, arrays, matrices, lambda part, group, reads: _mixed(part, (readers if reads else matrices)[group])
    )


def _labelled(network: Network) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Return a number for each unit of each node's output, and arrays (2, U) of pairs of numbers that additions tie."""
    numbers = count()

    def new(units: int) -> np.ndarray:
        return np.fromiter(numbers, np.int64, units)

    labels, ties = {INPUT: new(network.architecture["input_shape"][-1])}, []
    for node in network.nodes:
        first, *others = (labels[name] for name in node.inputs)
        if any(INPUTS in weight.axes for weight in node.weights.values()):
            first = new(node.shape[-1])
        elif node.op is subsample:
            first = np.concatenate([first, new(node.shape[-1] - len(first))])
        elif node.op is add:
            ties += [np.stack([first, other]) for other in others]
        labels[node.name] = first
    return labels, ties


def _identities(labels: Mapping[str, np.ndarray], ties: list[np.ndarray]) -> np.ndarray:
    """Return the unit that each number stands for. Tied numbers stand for the same unit."""
    from scipy.sparse import coo_array  # takes a fifth of a second to import
    from scipy.sparse.csgraph import connected_components

    total = 1 + max(int(label.max()) for label in labels.values())
    i, j = np.concatenate([np.empty((2, 0), np.int64), *ties], axis=1)
    return connected_components(coo_array((np.ones(len(i)), (i, j)), (total, total)), directed=False)[1]


def _kinds(axes: Iterable[np.ndarray], fixed: np.ndarray) -> np.ndarray:
    """Return a number for each unit: equal for units that appear on the same axes, 0 for the fixed units."""
    distinct = {tuple(axis): axis for axis in axes}
    size = 1 + max(int(axis.max()) for axis in distinct.values())
    kinds = np.zeros(size, np.int64)
    for axis in distinct.values():
        member = np.zeros(size, np.int64)
        member[axis] = 1
        kinds = np.unique(2 * kinds + member, return_inverse=True)[1]
    kinds += 1
    kinds[fixed] = 0
    return kinds


def _runs(kinds: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (kind, start, stop) of each run of equal kinds along an axis."""
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1), len(kinds)]
    return [(int(kinds[start]), int(start), int(stop)) for start, stop in pairwise(edges)]


def _require_group(basis: UnitGroups, group: str, units: int) -> None:
    if basis.groups.get(group) != units:
        listed = ", ".join(f"{name} ({size})" for name, size in basis.groups.items())
        raise BadInput(f"{group} of {units} units is no group of the network: there are {listed}")


def _changed(basis: UnitGroups, arrays: Mapping, groups: Iterable[str], change: Callable) -> dict[str, np.ndarray]:
    """Return the arrays, with every part (S, U, ...) of the groups replaced by `change(part, group, reads)`."""
    changed = {path: values.copy() for path, values in arrays.items()}
    for group in groups:
        for path, place, axis in basis.paths(group):
            values = np.moveaxis(changed[path], place, 1)
            shape = values.shape
            blocks = values.reshape(shape[0], axis.repeat, axis.units, -1)
            for segment in axis.segments:
                if segment.group == group:
                    part = blocks[:, :, segment.start : segment.stop].swapaxes(1, 2)
                    new = change(part, group, axis.reads)
                    blocks[:, :, segment.start : segment.stop] = new.swapaxes(1, 2)
            changed[path] = np.ascontiguousarray(np.moveaxis(blocks.reshape(shape), 1, place))
    return changed


def _taken(part: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return part[s, p[s, i]] for a part (S, U, ...)."""
    return np.take_along_axis(part, p.reshape(*p.shape, *(1,) * (part.ndim - 2)), axis=1)


def _mixed(part: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return Σ_j m[s, i, j] part[s, j] for a part (S, U, ...), in its type."""
    mixed = m @ part.reshape(*part.shape[:2], -1).astype(m.dtype)
    return mixed.reshape(part.shape).astype(part.dtype)
