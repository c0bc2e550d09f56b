"""A source of activations: the layers of one file, read in chunks of samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from basiscli import names


@dataclass(frozen=True)
class Source:
    """The layers of one file, read in chunks.

    layers:  the number of units of each layer, in the file's order. samples: the length of its first axis
    copies:  row i belongs to original image i // copies; if `groups`, ids (samples,), is given, to groups[i]
    held:    the bytes that the source holds while it is read; `release` gives them back, after each pass
    stored:  whether layers are stored: reading one costs only that layer. Computed layers all have the same samples
    inputs:  the images that the network ran on, as CHECKSUM/SPLIT, None if unknown
    ids:     the name and the values (samples,) of an array that identifies the samples, None if the file has none
    notes:   lines for the user about the reading of the file
    """

    path: str
    layers: dict[str, int]
    samples: Mapping[str, int]
    copies: int
    stored: bool
    inputs: str | None
    read: Callable[[Sequence[str], int, int], dict[str, np.ndarray]]  # arrays on the device (`device.placement`)
    ids: tuple[str, np.ndarray] | None = None
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    held: int = 0
    release: Callable[[], object] = lambda: None

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the activations (n, ..., units) of layers in chunks of n <= size samples, float32 or float64.

        All `layers` must have the same samples.
        """
        samples = self.samples[layers[0]]
        try:
            for start in range(0, samples, size):
                yield self.read(layers, start, min(start + size, samples))
        finally:
            self.release()


def renamed(source: Source, rules: Sequence[tuple[str, str]]) -> Source:
    """Return a source whose layers have other names (`names.renamed`). Raises BadInput if two get the same."""
    old = names.renamed(source.layers, rules, source.path)

    def read(wanted: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        arrays = source.read([old[name] for name in wanted], start, stop)
        return {name: arrays[old[name]] for name in wanted}

    return replace(
        source,
        layers={new: source.layers[name] for new, name in old.items()},
        samples={new: source.samples[name] for new, name in old.items()},
        read=read,
    )
