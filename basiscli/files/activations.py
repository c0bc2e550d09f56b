"""Where activations come from: arrays in a file, or a network that computes them, a chunk of samples at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files import hdf5, networks
from basiscli.files.datasets import dataset_of
from basiscli.nn import cost, names
from basiscli.nn.graph import Network, forward
from basiscli.training.images import SHIFTS, Standardisation, probe_batch

TAPS = ("post", "pre")
# Images that a network is shown: those of a part of its data set, or each of them in all nine shifts.
SPLITS = ("test", "train", "test-shifts", "train-shifts")
# Activations are written in chunks of about this many bytes, of this many samples at most.
RECORDED_BYTES = 64 << 20
RECORDED_AT_ONCE = 1000


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
    read: Callable[[Sequence[str], int, int], dict[str, np.ndarray]]  # where the work is done (`backend`)

    def chunks(self, layers: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield the activations (n, ..., units), float32, of some layers, n <= size samples at a time."""
        for start in range(0, self.samples, size):
            yield self.read(layers, start, min(start + size, self.samples))


def open_all(
    paths: Sequence[str],
    layer: str = "*",
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
) -> list[Source]:
    """Return a source for each file, with the layers that match a glob and the first `samples` samples.

    dataset: where the networks' data set is now, if it has moved.

    Network files give their stored activations where they hold the split and tap ("test" and "post" unless said
    otherwise), and compute them where not; activation files give what they hold; of other files every array of numbers
    with two or more axes, (samples, ..., units), is a layer.

    Raises BadInput for files that were shown different inputs.
    """
    sources = [narrow(open_source(path, split, tap, dataset), layer, samples) for path in paths]
    first = sources[0]
    for other in sources[1:]:
        if None not in (first.inputs, other.inputs) and first.inputs != other.inputs:
            raise BadInput(f"{first.path} and {other.path} were shown different inputs; record them on the same split")
    return sources


def open_source(path: str, split: str | None = None, tap: str | None = None, dataset: str | None = None) -> Source:
    """Return the source of one file; see `open_all`."""
    reader = hdf5.open_reader(path)
    if reader.kind == hdf5.RESULTS:
        raise BadInput(f"{path}: holds results of an analysis, not activations")
    if reader.kind == "arrays":
        return _stored(reader, {name: array for name, array in reader.datasets().items() if array.ndim >= 2})
    recorded = _recorded(reader)
    if reader.kind == hdf5.NETWORK:
        split, tap = split or "test", tap or "post"
        if recorded.get(split, {}).get("tap") != tap:
            return computed(path, split, tap, dataset)
    elif split is None:
        if len(recorded) != 1:
            raise BadInput(f"{path}: holds the splits {', '.join(recorded) or 'none'}; choose one with `split`")
        split = next(iter(recorded))
    if split not in recorded or tap not in (None, recorded[split]["tap"]):
        held = ", ".join(f"{name} {part['tap']}" for name, part in recorded.items())
        raise BadInput(f"{path}: holds no {tap or ''} activations of the split {split}, only {held or 'none'}")
    return _stored(reader, recorded[split]["arrays"], split)


def _recorded(reader: hdf5.Reader) -> dict[str, dict]:
    """Return the arrays and the tap of each split that was recorded into a file."""
    found: dict[str, dict] = {}
    for name, array in reader.datasets("activations").items():
        split, _, layer = name.partition("/")
        part = found.setdefault(split, {"arrays": {}, "tap": reader.attribute("tap", f"activations/{name}")})
        part["arrays"][layer] = array
    return found


def _stored(reader: hdf5.Reader, arrays: dict, split: str | None = None) -> Source:
    """Return a source of stored arrays; `split` says what they were recorded on, None for another program's."""
    path = reader.path
    if not arrays:
        raise BadInput(f"{path}: holds no array (samples, ..., units)")
    for name, array in arrays.items():
        reader.require_numbers(array)
        if not array.size or array.ndim < 2:
            raise BadInput(f"{path}: {name} has the shape {array.shape}, not (samples, ..., units)")
    counts = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise BadInput(f"{path}: layers of different sample counts: {counts}; choose with `layer`")

    def read(layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        return {
            name: placement.to_device(reader.rows(arrays[name], start, stop).astype(np.float32, copy=False))
            for name in layers
        }

    return Source(
        path=path,
        layers={name: array.shape[-1] for name, array in arrays.items()},
        samples=next(iter(counts.values())),
        copies=_copies(split) if split else 1,
        stored=True,
        inputs=f"{reader.json('dataset').get('checksum')}/{split}" if split else None,
        read=read,
    )


def computed(path: str, split: str, tap: str, dataset: str | None = None) -> Source:
    """Return a source that runs a network over a split of its data set, by its name or the one given."""
    loaded = networks.load(path)
    images = dataset_of(loaded, dataset)
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
    there = cache(lambda: placement.tree_to_device(arrays))

    def show(layers: Sequence[str], rows: range) -> dict[str, np.ndarray]:
        x, _ = probe_batch(part, standard, rows, shifted=_copies(split) > 1)
        wanted = {name: taps[name] for name in layers}
        last = max(wanted.values(), key=[node.name for node in network.nodes].index)
        _, kept, _ = forward(network, there(), x, keep=set(wanted.values()), until=last)
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


def record_files(
    targets: Mapping[str, Path],
    *,
    layer: str = "*",
    split: str = "test",
    tap: str = "post",
    samples: int | None = None,
    dataset: str | None = None,
    command: str = "",
    force: bool = False,
) -> Iterator[dict]:
    """Write the activations of each network into its own file, and yield its record.

    targets: the files to write, by the paths of the networks. layer: a glob. samples None: all of the split. Raises
    BadInput as `narrow` does, and where a file exists, unless `force`.
    """
    for path, target in targets.items():
        source = narrow(computed(path, split, tap, dataset), layer, samples)
        with hdf5.writing(target, force) as writer:
            writer.attributes(
                {
                    "kind": hdf5.ACTIVATIONS,
                    "network": path,
                    "dataset": {"checksum": source.inputs.partition("/")[0]},
                    "command": command,
                }
            )
            record(writer, source, split, tap)
        yield {
            "path": str(target),
            "network": path,
            "split": split,
            "tap": tap,
            "samples": source.samples,
            "layers": ",".join(source.layers),
        }


def record(writer: hdf5.Writer, source: Source, split: str, tap: str) -> None:
    """Write all layers of a source into a file, a chunk of samples at a time."""
    row = sum(values.nbytes for values in source.read(list(source.layers), 0, 1).values())
    read = source.chunks(list(source.layers), max(1, min(RECORDED_AT_ONCE, RECORDED_BYTES // row)))
    chunks = ({name: placement.to_host(values) for name, values in chunk.items()} for chunk in read)
    first = next(chunks)
    shapes = {name: (source.samples, *values.shape[1:]) for name, values in first.items()}
    writer.activations(split, tap, shapes, chain([first], chunks))


def _copies(split: str) -> int:
    return len(SHIFTS) if split.endswith("-shifts") else 1


def narrow(source: Source, glob: str, samples: int | None) -> Source:
    """Return a source with the layers that match a glob, and its first `samples` samples (None: all).

    Raises BadInput if no layer matches or there are fewer samples.
    """
    unknown = f"{source.path}: no layer matches '{glob}'; it has {', '.join(source.layers)}"
    layers = {name: source.layers[name] for name in names.select(source.layers, [glob], lambda _: unknown)}
    if samples is not None and samples > source.samples:
        raise BadInput(f"{source.path}: has {source.samples} samples, fewer than the {samples} asked for")
    return replace(source, layers=layers, samples=samples or source.samples)
