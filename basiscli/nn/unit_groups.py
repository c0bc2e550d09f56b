"""Which axes of which arrays hold the units of one basis, derived from the graph; whole networks in another basis.

S seeds, U units of a group. A group is a set of units that one permutation must move wherever they appear: in the map
that makes them, in the normalisation, in every map that reads them, and along a residual stream in every branch that
is added to it. The input and the logits belong to no group: their units mean something by themselves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from basiscli.errors import BadInput
from basiscli.nn.graph import INPUT, Network
from basiscli.nn.ops import add, subsample
from basiscli.nn.ops.node import INPUTS, Node


@dataclass(frozen=True)
class Segment:
    """Places start to stop of an axis hold all units of a group, in its order; of no group if that is None."""

    group: str | None
    start: int
    stop: int


@dataclass(frozen=True)
class Axis:
    """An axis of units: segments one after another, `repeat` times over (a flattened image repeats its units).

    reads: what lies along it multiplies units that others made; otherwise it makes or scales units.
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

    groups:  the number of units by group, named after the first layer that holds it (and the units there, if others
             are in it too: `block4/sum[16:32]`)
    axes:    by path, the axes that hold units, counted from the end: -1, -2
    outputs: the axis of units of each node's output
    layers:  the segments of each layer
    """

    groups: Mapping[str, int]
    axes: Mapping[str, Mapping[int, Axis]]
    outputs: Mapping[str, Axis]
    layers: Mapping[str, tuple[Segment, ...]]

    def paths(self, group: str) -> Iterator[tuple[str, int, Axis]]:
        """Yield the arrays and axes that hold units of a group."""
        for path, axes in self.axes.items():
            for place, axis in axes.items():
                if group in axis.groups():
                    yield path, place, axis


def unit_groups(network: Network) -> UnitGroups:
    """Return the groups of a network.

    Every map makes new units, an addition ties those of its inputs one by one, all else passes units on. What is tied
    is one unit; units that appear in the same places are one group.
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
    """Return arrays (S, ...) of networks with the units of groups in another order, which compute the same function.

    permutations: (S, U) by group; unit i of the new network is unit p[i] of the old. Groups left out stay. Raises
    BadInput for what is no permutation of a group.
    """
    for group, p in permutations.items():
        _require_group(basis, group, p.shape[-1])
        if not (np.sort(p, axis=-1) == np.arange(basis.groups[group])).all():
            raise BadInput(f"{group}: not a permutation of its {basis.groups[group]} units")
    return _changed(basis, arrays, permutations, lambda part, group, reads: _taken(part, permutations[group]))


def rotate_units(
    basis: UnitGroups, arrays: Mapping[str, np.ndarray], matrices: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return arrays (S, ...) of networks whose units of a group are y' = M y wherever they are made, and M⁻¹ y' read.

    matrices: (S, U, U) by group. The function stays the same where nothing but linear maps lies between making and
    reading, and where the nonlinearity commutes with M (ReLU: permutations times positive scales). Raises BadInput for
    a group that a normalisation scales: its scales and statistics belong to single units and cannot be rotated.
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
    """Return a number for each unit of each node's output, and pairs (2, U) of numbers that an addition ties."""
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
    """Return which unit each number is, given what is tied."""
    total = 1 + max(int(label.max()) for label in labels.values())
    i, j = np.concatenate([np.empty((2, 0), np.int64), *ties], axis=1)
    return connected_components(coo_array((np.ones(len(i)), (i, j)), (total, total)), directed=False)[1]


def _kinds(axes: Iterable[np.ndarray], fixed: np.ndarray) -> np.ndarray:
    """Return a number for each unit, the same for units that appear in the same axes; 0 for the fixed ones."""
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
    """Return (kind, start, stop) of the runs of one kind along an axis."""
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1), len(kinds)]
    return [(int(kinds[start]), int(start), int(stop)) for start, stop in pairwise(edges)]


def _require_group(basis: UnitGroups, group: str, units: int) -> None:
    if basis.groups.get(group) != units:
        listed = ", ".join(f"{name} ({size})" for name, size in basis.groups.items())
        raise BadInput(f"{group} of {units} units is no group of the network: there are {listed}")


def _changed(basis: UnitGroups, arrays: Mapping, groups: Iterable[str], change: Callable) -> dict[str, np.ndarray]:
    """Return the arrays with `change(part, group, reads)` put in the place of every part (S, U, ...) of the groups."""
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
