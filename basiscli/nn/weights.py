"""Explicit control of every weight: initialise, select by glob, lay out in one flat array, copy, mix."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from basiscli import names
from basiscli.errors import BadInput
from basiscli.nn.graph import Network
from basiscli.rng import generator

# Slots start at multiples of so many floats (64 bytes), so that two parameters never share a cache line.
ALIGNMENT = 16


def select(paths: Iterable[str], globs: Iterable[str]) -> list[str]:
    """Return the paths that globs choose as in `names.select`, in the order of the paths. `*` matches across slashes.

    Raises BadInput for a glob that matches nothing.
    """
    paths = list(paths)
    return names.select(paths, tuple(globs), lambda glob: f"no weight matches '{glob}'; there are {', '.join(paths)}")


def checksum(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256, in hex, of the bytes of arrays one after the other."""
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def initial(network: Network, seed: int) -> dict[str, np.ndarray]:
    """Return the initial weights and state of one seed, float32.

    Each weight has its own random stream, named by its path. So it does not depend on the other weights of the network.
    """
    return {
        path: weight.draw(generator(seed, "init", path), weight.shape).astype(np.float32)
        for path, weight in network.weights.items()
    }


def transplant(
    weights: Mapping[str, np.ndarray], donor: Mapping[str, np.ndarray], globs: Sequence[str], name: str
) -> None:
    """Copy the donor's arrays that match the globs into `weights`, in place. `name` is the donor's name, for messages.

    Raises BadInput if a glob matches no array of the donor, or an array that `weights` lacks or has in another shape.
    """
    for path in select(donor, globs):
        if path not in weights or weights[path].shape != donor[path].shape:
            shape = weights[path].shape if path in weights else "no such weight"
            raise BadInput(f"{name}: {path} {donor[path].shape} does not fit ({shape}); choose with `start_weights`")
        weights[path][...] = donor[path]


def mix(networks: Sequence[Mapping[str, np.ndarray]], shares: np.ndarray) -> dict[str, np.ndarray]:
    """Return θ_l = Σ_k shares[l, k] θ_k, (L, ...), for every array, state included, of K networks (1, ...).

    Shares of 1 for a network and 0 for the others give exactly this network. All networks must have the same arrays.
    """
    mixed = {}
    for path, first in networks[0].items():
        parts = shares.astype(first.dtype).reshape(*shares.shape, *(1,) * (first.ndim - 1))
        mixed[path] = sum(parts[:, k] * network[path] for k, network in enumerate(networks))
    return mixed


def interpolate(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], lambdas: np.ndarray) -> dict[str, np.ndarray]:
    """Return θ(λ) = (1 - λ) θ_a + λ θ_b for L values of λ: (L, ...). λ = 0 gives exactly a, and λ = 1 exactly b."""
    return mix([a, b], np.stack([1 - lambdas, lambdas], axis=1))


def prefix(network: Network, layers: int) -> list[str]:
    """Return the paths of all arrays that the first `layers` layers of a network depend on, state included.

    They come in the network's order. Raises BadInput if the network has fewer layers.
    """
    if not 1 <= layers <= len(network.layers):
        names = ", ".join(network.layers)
        raise BadInput(f"a prefix of {layers} layers: choose 1 to {len(network.layers)} of {names}")
    nodes = set().union(*(network.below(layer.post) for layer in list(network.layers.values())[:layers]))
    return [path for path in network.weights if path.rpartition("/")[0] in nodes]


@dataclass(frozen=True)
class Layout:
    """The position of each trainable array of a network in a flat row of `size` floats.

    The row has three parts: weights with decay, weights without decay, frozen weights. `decayed` and `trained` are the
    ends of the first two parts. So an optimiser works on one block of memory.
    """

    slots: Mapping[str, tuple[int, tuple[int, ...]]]
    decayed: int
    trained: int
    size: int

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays (S, ...) as views of a flat array (S, size)."""
        return {
            path: flat[:, start : start + prod(shape)].reshape(len(flat), *shape)
            for path, (start, shape) in self.slots.items()
        }

    def trained_paths(self) -> list[str]:
        """Return the paths that are not frozen."""
        return [path for path, (start, _) in self.slots.items() if start < self.trained]


def layout(network: Network, frozen: Iterable[str] = ()) -> Layout:
    """Return the layout of a network's weights, given the frozen paths. It does not include state."""
    frozen = set(frozen)
    free = [path for path in network.trained if path not in frozen]
    parts = (
        [path for path in free if network.weights[path].decays],
        [path for path in free if not network.weights[path].decays],
        [path for path in network.trained if path in frozen],
    )
    slots, ends, position = {}, [], 0
    for part in parts:
        for path in part:
            shape = network.weights[path].shape
            slots[path] = position, shape
            position += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
        ends.append(position)
    return Layout(slots, *ends)
