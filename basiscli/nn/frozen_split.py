"""A network split where training begins.

The frozen lower part runs in inference, and only once if all seeds share its weights. S seeds, N samples. Features are
the outputs of the lower part that the upper part reads, by the name of the node.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from basiscli.nn.graph import INPUT, Network, forward, nodes_above


@dataclass(frozen=True)
class FrozenSplit:
    """The two parts of the networks of several seeds.

    arrays: the weights and states of the lower part, (S, ...), or (1, ...) if all seeds share them.
    """

    below: Network
    above: Network
    arrays: Mapping[str, np.ndarray]
    seeds: int

    @classmethod
    def of(cls, network: Network, arrays: Mapping[str, np.ndarray], trained: Iterable[str]) -> "FrozenSplit":
        """Split networks with arrays (S, ...) below the lowest node that holds one of the `trained` paths."""
        below, above = split(network, list(trained))
        own = {path: arrays[path] for path in below.weights}
        if all((values == values[:1]).all() for values in own.values()):
            own = {path: values[:1] for path, values in own.items()}
        return cls(below, above, own, len(arrays[next(iter(network.weights))]))

    @property
    def shared(self) -> bool:
        """Whether the lower part holds weights, and all seeds have the same."""
        return bool(self.arrays) and all(len(values) == 1 for values in self.arrays.values())

    def features(self, images: np.ndarray, of: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the features (S, N, ...) of images (T, N, H, W, C).

        Seed s reads row of[s] of the images. Without `of`, T is 1 (all seeds read the same row) or S (each seed reads
        its own). The features are (1, N, ...) if they depend on no weight and T is 1.
        """
        if not self.shared:
            return self._lower_outputs(images if of is None else images[of])
        features = self._lower_outputs(images.reshape(1, -1, *images.shape[2:]))
        shape = images.shape[:2]
        features = {name: values.reshape(*shape, *values.shape[2:]) for name, values in features.items()}
        if of is None and self.seeds == shape[0]:
            return features
        if of is None:
            return {name: np.repeat(values, self.seeds // shape[0], axis=0) for name, values in features.items()}
        return {name: values[of] for name, values in features.items()}

    def table(self, chunks: Iterable[np.ndarray], count: int) -> dict[str, np.ndarray]:
        """Return the features (count, ...) of images in chunks (1, n, H, W, C). All seeds must share the lower part."""
        tables: dict[str, np.ndarray] = {}
        start = 0
        for images in chunks:
            for name, values in self._lower_outputs(images).items():
                table = tables.setdefault(name, np.empty_like(values, shape=(count, *values.shape[2:])))
                table[start : start + values.shape[1]] = values[0]
            start += images.shape[1]
        return tables

    def floats(self) -> int:
        """Return the number of floats in the features of one image."""
        shapes = {node.name: node.shape for node in self.below.nodes}
        shapes[INPUT] = tuple(self.below.architecture["input_shape"])
        return sum(int(np.prod(shapes[name])) for name in self.above.reads)

    def _lower_outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        wanted = self.above.reads
        kept = forward(self.below, self.arrays, images, keep=wanted)[1] if self.below.nodes else {}
        return kept | ({INPUT: images} if INPUT in wanted else {})


def split(network: Network, trained: Collection[str]) -> tuple[Network, Network]:
    """Return the lower and the upper part of a network, with no `trained` path in the lower one.

    The upper part always has the last node, and `reads` outputs of the lower part. Dropout belongs to the upper part
    unless a frozen layer follows it, so it stays active for the trained layers. Both parts keep description and layers.
    """
    upper = nodes_above(network.nodes, trained)
    maps = [node.name for node in network.nodes if any(weight.trained for weight in node.weights.values())]
    settled = set().union(*(network.below(name) for name in maps if name not in upper))
    masks = [path for node in network.nodes if node.name not in {*settled, *maps} for path in node.paths.values()]
    upper = nodes_above(network.nodes, {*trained, *masks}) | {network.nodes[-1].name}
    parts: tuple[list, list] = [], []
    for node in network.nodes:
        parts[node.name in upper].append(node)
    below, above = (replace(network, nodes=tuple(nodes)) for nodes in parts)
    return below, above
