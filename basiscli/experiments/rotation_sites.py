"""Fixed maps M in trained networks (docs/rotate.md): their places, their matrices, and their exact inverse by folding.

S networks in one run, U units. A site is the place of M for one layer, an arm is a kind of M with its power, and a
slice is one arm in one repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from basiscli import names
from basiscli.analysis import random_maps
from basiscli.analysis.random_maps import IDENTITY, ORTHOGONAL, PERMUTATION, SYMMETRY
from basiscli.errors import BadInput
from basiscli.nn import weights
from basiscli.nn.fixed_maps import fixed_maps, rotated, rotates
from basiscli.nn.graph import Layer, Network
from basiscli.nn.ops import batchnorm, layernorm
from basiscli.nn.ops.node import INPUTS, Node
from basiscli.nn.unit_groups import Segment, UnitGroups, permute_units, rotate_units, unit_groups
from basiscli.rng import generator

PRE, POST = TAPS = ("pre", "post")
DOWNSTREAM, UPSTREAM, NOTHING = RETRAINED = ("downstream", "upstream", "none")
CONTINUE, REINIT = STARTS = ("continue", "reinit")
# The nonlinearities that commute with the ReLU symmetry.
SYMMETRIC = ("relu", "linear")


@dataclass(frozen=True)
class Arm:
    """A kind of M and its power α."""

    kind: str
    power: float = 1.0

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.kind if self.power == 1 else f"{self.kind}-{self.power:g}"


@dataclass(frozen=True)
class Slice:
    """One arm in one repeat."""

    arm: Arm
    repeat: int


@dataclass(frozen=True)
class Protocol:
    """The treatment of networks: the options of `basiscli rotate`. `filled` sets kinds and start that are None.

    epochs, lr and augment are None for the values of the networks' own training.
    """

    kinds: Sequence[str] | None
    powers: Sequence[float]
    tap: str
    retrain: str
    start: str | None
    cumulative: bool
    repeats: int
    epochs: int | None
    lr: float | None
    clip: float
    augment: str | None

    @property
    def arms(self) -> list[Arm]:
        """The kinds of M; the orthogonal kind with each power."""
        assert self.kinds is not None  # see `filled`
        return [Arm(kind, power) for kind in self.kinds for power in (self.powers if kind == ORTHOGONAL else (1.0,))]

    @property
    def slices(self) -> list[Slice]:
        """All slices, ordered by repeat."""
        return [Slice(arm, repeat) for repeat in range(self.repeats) for arm in self.arms]

    @property
    def name(self) -> str:
        """The name of its folder."""
        words = [self.tap, self.retrain]
        if self.retrain != NOTHING:
            assert self.start is not None  # see `filled`
            words.append(self.start)
        return "-".join([*words, "cumulative"] if self.cumulative else words)


def filled(protocol: Protocol, network: Network) -> Protocol:
    """Return the protocol with the values that the network implies. Raises BadInput for a kind that does not fit it.

    Kinds are orthogonal, permutation and identity, and the ReLU symmetry if it is a symmetry of the network. Identity
    is always among them, since all kinds are compared with it. An MLP starts from new weights; other networks continue.
    """
    activation, symmetric = network.architecture["activation"], protocol.tap == PRE
    kinds = protocol.kinds
    if kinds is None:
        kinds = (
            (ORTHOGONAL, PERMUTATION, SYMMETRY) if symmetric and activation in SYMMETRIC else (ORTHOGONAL, PERMUTATION)
        )
    elif SYMMETRY in kinds and activation not in SYMMETRIC:
        raise BadInput(f"{SYMMETRY}: scales pass through ReLU, not through {activation}; choose {PERMUTATION}")
    small = network.architecture["model"] == "mlp" and protocol.retrain != NOTHING
    start = protocol.start or (REINIT if small else CONTINUE)
    return replace(protocol, kinds=tuple(dict.fromkeys((*kinds, IDENTITY))), start=start)


@dataclass(frozen=True)
class Site:
    """A layer and the place of its M: the rotated network, the paths that are not trained, and the units that M turns.

    blocks: for each fixed map, by its path, the segments of its axis that M turns; other units pass unchanged.
    """

    layer: str
    network: Network
    frozen: tuple[str, ...]
    blocks: Mapping[str, Sequence[Segment]]

    @property
    def units(self) -> int:
        """The number of units of the layer."""
        return self.network.layers[self.layer].units

    @property
    def retrained(self) -> list[str]:
        """The paths that are trained."""
        return [path for path in self.network.trained if path not in self.frozen]

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(prod(self.network.weights[path].shape) for path in self.retrained)


def sites(network: Network, protocol: Protocol, globs: Sequence[str]) -> list[Site]:
    """Return the sites of the layers that patterns choose (`names.select`).

    Raises BadInput for a glob without a match, and for layers that cannot be rotated (`places`).
    """
    last = network.nodes[-1].name

    def unknown(glob: str) -> str:
        why = f"{last} gives the logits and is not rotated" if names.matches(last, glob) else "no such layer"
        return f"`layer` {glob}: {why}; there are {', '.join(network.layers)}"

    return [_site(network, protocol, layer) for layer in names.select(network.layers, globs, unknown)]


def _site(network: Network, protocol: Protocol, layer: str) -> Site:
    layers = list(network.layers)
    depth = layers.index(layer) + 1
    unit_groups_of, turned = unit_groups(network), layers[:depth] if protocol.cumulative else [layer]
    where: dict[str, str] = {}
    for name in turned:
        where |= places(network, unit_groups_of, name, protocol.tap)
    groups = {part.group for name in turned for part in unit_groups_of.layers[name]}
    blocks = {}
    for place, tap in where.items():
        axis = unit_groups_of.outputs[rotates(network, place, tap).name]
        blocks[f"{place}/rotation/w"] = [part for part in axis.segments if part.group in groups]
    with_maps = rotated(network, where)
    below = set(weights.prefix(with_maps, depth))
    free = {DOWNSTREAM: set(with_maps.trained) - below, UPSTREAM: below, NOTHING: set()}[protocol.retrain]
    return Site(layer, with_maps, tuple(path for path in with_maps.trained if path not in free), blocks)


def places(network: Network, unit_groups_of: UnitGroups, layer: str, tap: str) -> dict[str, str]:
    """Return the places of M that rotate all units in the basis of a layer alike, as `fixed_maps.rotated` takes them.

    `pre`: after every map that makes units of the layer's groups, and after the map's own normalisation. Most layers
    have one such map; a residual stream has those of all branches, before they are added. `post`: after φ.

    Raises BadInput for `post` on a residual stream, since its sums would hold M x beside M M x. Raises BadInput if a
    normalisation reads the stream: its scales and running statistics belong to single units and cannot be rotated.
    """
    groups = {segment.group for segment in unit_groups_of.layers[layer]}

    def shares(node: Node) -> bool:
        return bool(groups & set(unit_groups_of.outputs[node.name].groups()))

    maps = [node.name for node in network.nodes if _makes_units(node) and shares(node)]
    if None in groups or not maps:
        raise BadInput(f"{layer}: its units are tied to the input or the logits and cannot be rotated")
    if tap == POST:
        if len(maps) > 1:
            raise BadInput(
                f"{layer}: lies on a residual stream ({', '.join(maps)} write it); after the nonlinearity its sums "
                "would hold rotated and twice rotated terms; choose `tap` pre"
            )
        return {layer: POST}
    own = {rotates(network, name, PRE).name for name in maps}
    for node in network.nodes:
        if node.op in (batchnorm, layernorm) and shares(node) and node.name not in own:
            raise BadInput(
                f"{layer}: {node.name} normalises a residual stream, and its scales and statistics belong to single "
                "units: rotating them has no meaning; choose layers inside blocks (`layer` '*/conv1'), or networks of "
                "`norm` none"
            )
    return dict.fromkeys(maps, PRE)


def matrices(site: Site, part: Slice, seed: int) -> dict[str, np.ndarray]:
    """Return w = Mᵀ (U, U), float32, of each fixed map of a site; a group of units has the same M in all maps.

    Arms that differ in their power have powers of the same M.
    """
    kind, maps = part.arm.kind, {}
    drawn: dict[str, np.ndarray] = {}
    for path, blocks in site.blocks.items():
        w = np.eye(site.network.weights[path].shape[0])
        for block in blocks:
            assert block.group is not None  # `places` refuses units without a group
            if block.group not in drawn:
                rng = generator(seed, "rotation", kind, block.group)
                drawn[block.group] = random_maps.draw(kind, rng, block.stop - block.start, part.arm.power)
            w[block.start : block.stop, block.start : block.stop] = drawn[block.group].T
        maps[path] = w.astype(np.float32)
    return maps


def folded(network: Network, arrays: Mapping[str, np.ndarray], upstream: bool) -> dict[str, np.ndarray]:
    """Return arrays (1, ...) of a rotated network in which the weights around every M undo it, if that is possible.

    Downstream, M⁻¹ goes into the weights that read M x; upstream, into the weights that make x. M and other weights do
    not change. Exact if only ops that commute with M lie between. Raises BadInput if a normalisation lies between,
    unless M is a permutation.
    """
    fixed = fixed_maps(network)
    # Unit groups are named after layers, so the units before M (or after it) are made layers.
    taps = {node.name: node.inputs[0] if upstream else node.name for node in fixed}
    layers = {node.name: Layer(taps[node.name], taps[node.name], node.shape[-1]) for node in fixed}
    groups = unit_groups(replace(network, layers=layers))
    matrices: dict[str, np.ndarray] = {}
    permutations: dict[str, np.ndarray] = {}
    for node in fixed:
        m = arrays[node.paths["w"]].astype(np.float64).swapaxes(1, 2)
        for part in groups.outputs[taps[node.name]].segments:
            if part.group is None:
                raise BadInput(f"{node.name}: its units are tied to the input or the logits and cannot be folded")
            block = m[:, part.start : part.stop, part.start : part.stop]
            matrices[part.group] = np.linalg.inv(block) if upstream else block
            permutations[part.group] = matrices[part.group].argmax(axis=2)
    if all(np.isin(matrix, (0, 1)).all() for matrix in matrices.values()):
        changed = permute_units(groups, arrays, permutations)
    else:
        changed = rotate_units(groups, arrays, matrices)
    return changed | {path: arrays[path] for node in fixed for path in node.paths.values()}


def _makes_units(node: Node) -> bool:
    return any(INPUTS in weight.axes for weight in node.weights.values())
