"""A source of activations: the layers of one file, to be read in chunks of samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Source:
    """The layers of one file, to be read in chunks.

    layers:  units by name, in the file's order. samples: the length of the first axis, by layer.
    copies:  row i belongs to original image i // copies, or where there are `groups`, (samples,) ids, to groups[i].
    stored:  reading one layer alone costs only that layer. Layers that are computed all have the same samples.
    inputs:  what was shown to the network, None if unknown. ids: the name and values (samples,) of an array that tells
             the samples apart, None if there is none.
    notes:   what a user should know of how the file was read, in a line each.
    """

    path: str
    layers: dict[str, int]
    samples: Mapping[str, int]
    copies: int
    stored: bool
    inputs: str | None
    read: Callable[[Sequence[str], int, int], dict[str, np.ndarray]]  # where the work is done (`device.placement`)
    ids: tuple[str, np.ndarray] | None = None
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the activations (n, ..., units) of layers with the same samples, n <= size samples at a time.

        They are float32 or float64.
        """
        samples = self.samples[layers[0]]
        for start in range(0, samples, size):
            yield self.read(layers, start, min(start + size, samples))
