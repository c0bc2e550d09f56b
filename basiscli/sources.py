"""Where activations come from: arrays in a file, or a network that computes them, a chunk of samples at a time."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from basiscli import checkpoint, cost, data, records, store
from basiscli.data import Dataset
from basiscli.errors import BadInput
from basiscli.graph import Network, forward
from basiscli.train import SHIFTS, Standardisation, probe

TAPS = ("post", "pre")
# A "-shifts" split is every image of a split in all nine shifts by at most one pixel, one after another.
SPLITS = ("test", "train", "test-shifts", "train-shifts")


@dataclass(frozen=True)
class Source:
    """The layers of one file, to be read in chunks.

    layers: units by name, in order. samples: the length of the first axis. Row i belongs to original image i // copies.
    stored: reading one layer alone costs only that layer. inputs: what was shown to the network, None if unknown.
    """

    path: str
    layers: dict[str, int]
    samples: int
    copies: int
    stored: bool
    inputs: str | None
    read: Callable[[Sequence[str], int, int], dict[str, np.ndarray]]

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the activations (n, ..., units), float32, of some layers, n <= size samples at a time."""
        for start in range(0, self.samples, size):
            yield self.read(layers, start, min(start + size, self.samples))


def paths_from(arguments: Sequence[str]) -> list[str]:
    """Return the files that a command line names; "-" stands for those on stdin, records with `path` or plain lines.

    A network that diverged is left out, with a line on stderr. Raises BadInput if nothing is left.
    """
    found: list[str] = []
    for argument in arguments:
        for entry in _stdin_entries() if argument == "-" else [argument]:
            if entry not in found:
                found.append(entry)
    if not found:
        raise BadInput("no file was named, on the command line or on stdin")
    return found


def _stdin_entries() -> Iterator[str]:
    for entry in records.read_lines(sys.stdin):
        if isinstance(entry, str):
            yield entry
        elif "path" not in entry:
            raise BadInput(f"stdin: a record without a path: {entry}")
        elif entry.get("status") == "diverged":
            print(f"basiscli: {entry['path']}: diverged in training, left out", file=sys.stderr)
        else:
            yield entry["path"]


def open_all(
    paths: Sequence[str], layer: str = "*", split: str = "test", tap: str = "post", samples: int | None = None
) -> list[Source]:
    """Return a source for each file, with the layers that match a glob and the first `samples` samples.

    Network files give their stored activations where they hold the split and tap, and compute them otherwise;
    activation files give what they hold; of other files every array of numbers with two or more axes,
    (samples, ..., units), is a layer. Raises BadInput for files that cannot be used together: sample counts or inputs that differ.
    """
    sources = [_first(open_source(path, layer, split, tap), samples) for path in paths]
    first = sources[0]
    for other in sources[1:]:
        if other.samples != first.samples:
            raise BadInput(
                f"{first.path} has {first.samples} samples, {other.path} {other.samples}; "
                "record the same split of both, or choose with --samples"
            )
        if None not in (first.inputs, other.inputs) and first.inputs != other.inputs:
            raise BadInput(f"{first.path} and {other.path} were shown different inputs; record them on the same split")
    return sources


def open_source(path: str, layer: str, split: str, tap: str) -> Source:
    """Return the source of one file; see `open_all`."""
    reader = store.open_reader(path)
    kind = reader.kind
    if kind == store.NETWORK:
        arrays = _stored_activations(reader, split, tap)
        if arrays is None:
            return _choose(computed(path, split, tap), layer)
    elif kind == store.ACTIVATIONS:
        arrays = _stored_activations(reader, split, tap)
        if arrays is None:
            held = ", ".join(sorted({name.split("/")[0] for name in reader.datasets("activations")}))
            raise BadInput(f"{path}: holds no {tap} activations of the split {split} (it has {held or 'none'})")
    elif kind == store.RESULTS:
        raise BadInput(f"{path}: holds results of an analysis, not activations")
    else:
        arrays = {name: array for name, array in reader.datasets().items() if array.ndim >= 2}
    return _choose(_stored(reader, path, arrays, split), layer)


def _stored_activations(reader: store.Reader, split: str, tap: str):
    """Return the arrays of a split if they were recorded at this tap, else None."""
    arrays = reader.datasets(f"activations/{split}")
    return arrays if arrays and all(array.attrs.get("tap") == tap for array in arrays.values()) else None


def _stored(reader: store.Reader, path: str, arrays: dict, split: str) -> Source:
    if not arrays:
        raise BadInput(f"{path}: holds no array (samples, ..., units)")
    for name, array in arrays.items():
        reader.require_numbers(array)
        if not array.size or array.ndim < 2:
            raise BadInput(f"{path}: {name} has the shape {array.shape}, not (samples, ..., units)")
    counts = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"{path}: layers of different sample counts: {counts}; choose with --layer")
    own = reader.kind != "arrays"

    def read(layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: reader.rows(arrays[name], start, stop).astype(np.float32, copy=False) for name in layers}

    return Source(
        path=path,
        layers={name: array.shape[-1] for name, array in arrays.items()},
        samples=next(iter(counts.values())),
        copies=_copies(split) if own else 1,
        stored=True,
        inputs=f"{reader.json('dataset').get('checksum')}/{split}" if own else None,
        read=read,
    )


def computed(path: str, split: str, tap: str, dataset: str | None = None) -> Source:
    """Return a source that runs a network over a split of its data set, by its name or the one given."""
    loaded = checkpoint.load(path)
    images = load_dataset(dataset or loaded.file.dataset["name"])
    if images.checksum != loaded.file.dataset.get("checksum"):
        raise BadInput(
            f"{path}: the data set {images.name} is not the one it was trained on; name that one with --dataset"
        )
    return of_network(path, loaded.network, loaded.arrays, loaded.standard, images, split, tap)


def of_network(
    path: str,
    network: Network,
    arrays: Mapping[str, np.ndarray],
    standard: Standardisation,
    images: Dataset,
    split: str,
    tap: str,
) -> Source:
    """Return a source that runs a network, arrays (1, ...), over a split of a data set."""
    part = getattr(images, split.partition("-")[0])
    taps = {name: network.tap(name, tap) for name in network.layers}
    at_once = cost.evaluated_at_once(network)

    def show(layers: Sequence[str], rows: range) -> dict[str, np.ndarray]:
        x, _ = probe(part, standard, rows, shifted=_copies(split) > 1)
        wanted = {name: taps[name] for name in layers}
        last = max(wanted.values(), key=[node.name for node in network.nodes].index)
        _, kept, _ = forward(network, arrays, x, keep=set(wanted.values()), until=last)
        return {name: kept[node][0] for name, node in wanted.items()}

    def read(layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        parts = [show(layers, range(first, min(first + at_once, stop))) for first in range(start, stop, at_once)]
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in layers}

    return Source(
        path=path,
        layers={name: place.units for name, place in network.layers.items()},
        samples=len(part.labels) * _copies(split),
        copies=_copies(split),
        stored=False,
        inputs=f"{images.checksum}/{split}",
        read=read,
    )


def record(writer: store.Writer, source: Source, split: str, tap: str, size: int) -> None:
    """Write all layers of a source into a file, `size` samples at a time."""
    chunks = source.chunks(list(source.layers), size)
    first = next(chunks)
    shapes = {name: (source.samples, *values.shape[1:]) for name, values in first.items()}
    writer.activations(split, tap, shapes, chain([first], chunks))


@lru_cache(maxsize=2)
def load_dataset(name: str) -> Dataset:
    """Return a data set by name or by the path of an HDF5 or .npz file."""
    if name not in data.names() and Path(name).suffix in (".h5", ".hdf5"):
        return data.from_arrays(name, store.dataset_arrays(name))
    return data.load(name)


def _copies(split: str) -> int:
    return len(SHIFTS) if split.endswith("-shifts") else 1


def _choose(source: Source, glob: str) -> Source:
    layers = {name: units for name, units in source.layers.items() if fnmatchcase(name, glob)}
    if not layers:
        raise BadInput(f"{source.path}: no layer matches '{glob}'; it has {', '.join(source.layers)}")
    return replace(source, layers=layers)


def _first(source: Source, samples: int | None) -> Source:
    if samples is None:
        return source
    if samples > source.samples:
        raise BadInput(f"{source.path}: has {source.samples} samples, fewer than the {samples} asked for")
    return replace(source, samples=samples)
