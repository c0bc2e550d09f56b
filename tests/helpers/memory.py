"""A source of activations in memory: it keeps the promise of `basiscli.files.activations.Source` without a file."""

from collections.abc import Iterator, Sequence

import numpy as np


class MemorySource:
    def __init__(self, path: str, arrays: dict[str, np.ndarray], copies: int = 1, stored: bool = True) -> None:
        self.path = path
        self.arrays = {layer: np.asarray(array, dtype=np.float32) for layer, array in arrays.items()}
        self.layers = {layer: array.shape[-1] for layer, array in arrays.items()}
        self.samples = {layer: len(array) for layer, array in arrays.items()}
        self.copies = copies
        self.groups = None
        self.held = 0
        self.stored = stored
        self.passes: list[list[str]] = []

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        self.passes.append(list(layers))
        for first in range(0, self.samples[layers[0]], size):
            yield {layer: self.arrays[layer][first : first + size] for layer in layers}

    def read(self, layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        return {layer: self.arrays[layer][start:stop] for layer in layers}
