"""Sources of activations: arrays in a file, or a network that computes them chunk by chunk."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path

import numpy as np

from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput, printable
from basiscli.files import arrays, hdf5, kinds, networks, schema
from basiscli.files.datasets import dataset_of
from basiscli.files.pool import Pool
from basiscli.files.rows import forget
from basiscli.files.source import Source
from basiscli.files.writer import Writer, writing
from basiscli.names import EVERY, choose
from basiscli.nn import cost
from basiscli.nn.graph import Network, forward
from basiscli.notes import log
from basiscli.training.images import SHIFTS, Standardisation, probe_batch

# The images that a network runs on: a part of its data set, or this part with each image in all nine shifts.
SPLITS = ("test", "train", "test-shifts", "train-shifts")
# Activations are written in chunks of about RECORDED_BYTES, and of at most RECORDED_AT_ONCE samples.
RECORDED_BYTES = 64 << 20
RECORDED_AT_ONCE = 1000


class Diverged(BadInput):
    """A network that diverged in training: its activations are no numbers."""


def open_all(
    paths: Sequence[str],
    layers: Sequence[str] = EVERY,
    split: str | None = None,
    tap: str | None = None,
    samples: int | None = None,
    dataset: str | None = None,
    channels: str | None = None,
    ids: str | None = None,
    network_tap: str = "post",
    without_diverged: bool = False,
) -> list[Source]:
    """Return a source for each file, with the layers that patterns choose and their first `samples` samples.

    A network file gives its stored activations if it holds the split and the tap ("test" and `network_tap` by default).
    Otherwise the network computes them. An activation file gives the activations that it holds. In other HDF5, .npz
    and .npy files every array of numbers with two or more axes, (samples, ..., units), is a layer.

    layers: patterns as `names.choose` takes them. dataset: the path of the networks' data set, if it has moved.
    channels: "first" for arrays (samples, units, ...), "last", or None to let the shapes decide. ids: the name of the
    array that identifies the samples in another program's file (None: one of arrays.IDS). without_diverged: leave out
    networks that diverged in training, with a line for each.

    Raises BadInput for files of different inputs, for files with the same samples in different orders, for a network
    that diverged, and if one file is left of several.
    """
    files = Pool()
    sources = []
    for path in paths:
        try:
            opened = open_source(path, split, tap, dataset, layers, channels, ids, network_tap, files)
        except Diverged as error:
            if not without_diverged or len(paths) == 1:
                raise
            log.warning(f"{error}, left out")
            continue
        sources.append(narrow(opened, samples))
    if len(sources) < min(len(paths), 2):
        raise BadInput(f"{paths[0]}: of {len(paths)} networks all but {len(sources)} diverged in training")
    first = sources[0]
    for other in sources[1:]:
        if None not in (first.inputs, other.inputs) and first.inputs != other.inputs:
            raise BadInput(f"{first.path} and {other.path} were shown different inputs; record them on the same split")
        _require_same_samples(first, other)
    return sources


def open_source(
    path: str,
    split: str | None = None,
    tap: str | None = None,
    dataset: str | None = None,
    layers: Sequence[str] = EVERY,
    channels: str | None = None,
    ids: str | None = None,
    network_tap: str = "post",
    files: Pool | None = None,
) -> Source:
    """Return the source of one file; see `open_all`. files: the open files of several sources."""
    suffix = Path(path).suffix
    if suffix in (".npz", ".npy"):
        return arrays.source_of(path, arrays.of_numpy(path), layers, channels, ids)
    if suffix in arrays.ELSEWHERE:
        raise BadInput(f"{path}: {arrays.ELSEWHERE[suffix]}")
    files = files or Pool()
    reader = files.reader(path)
    if reader.kind == hdf5.RESULTS:
        raise BadInput(f"{path}: holds results of an analysis, not activations")
    if reader.kind == hdf5.ARRAYS:
        return arrays.source_of(path, arrays.of_hdf5(reader, files), layers, channels, ids)
    splits = recorded(reader)
    if reader.kind == hdf5.NETWORK:
        if schema.read(schema.NetworkAttributes, reader).status == networks.DIVERGED:
            raise Diverged(f"{path}: diverged in training")
        split, tap = split or "test", tap or network_tap
        if splits.get(split, {}).get("tap") != tap:
            return chosen(computed(path, split, tap, dataset), layers)
    elif split is None:
        if len(splits) != 1:
            raise BadInput(f"{path}: holds the splits {', '.join(splits) or 'none'}; choose one with `split`")
        split = next(iter(splits))
    if split not in splits or tap not in (None, splits[split]["tap"]):
        held = ", ".join(f"{name} {part['tap']}" for name, part in splits.items())
        raise BadInput(f"{path}: holds no {tap or ''} activations of the split {split}, only {held or 'none'}")
    return chosen(_stored(reader, splits[split]["arrays"], split, files), layers)


def _require_same_samples(first: Source, other: Source) -> None:
    """Raise BadInput if the ids show that two files hold different samples, or the same samples in different orders."""
    if first.ids is None or other.ids is None or first.ids[0] != other.ids[0]:
        return
    (name, mine), (_, theirs) = first.ids, other.ids
    count = min(len(mine), len(theirs), *first.samples.values(), *other.samples.values())
    if np.array_equal(mine[:count], theirs[:count]):
        return
    if len(mine) == len(theirs) and np.array_equal(np.sort(mine), np.sort(theirs)):
        raise BadInput(
            f"{other.path}: holds the samples of {first.path} in another order ({name} differ): sort the rows of both "
            f"by {name}, then correlate them"
        )
    raise BadInput(
        f"{other.path}: holds other samples than {first.path} ({name} differ); record both on the same inputs"
    )


def recorded(reader: hdf5.Reader) -> dict[str, dict]:
    """Return the arrays and the tap of each recorded split in a file. Raises BadInput for other arrays than those."""
    splits: dict[str, dict] = {}
    for name, array in reader.datasets("activations").items():
        split, _, layer = name.partition("/")
        tap = schema.read(schema.ArrayAttributes, reader, f"activations/{name}").tap
        part = splits.setdefault(split, {"arrays": {}, "tap": tap})
        part["arrays"][layer] = reader.require_numbers(array)
        if not array.size or array.ndim < 2 or array.dtype != np.float32:
            said = f"{name} is {array.dtype} {array.shape!s:.60}"
            raise BadInput(f"{reader.path}: {said}, not float32 (samples, ..., units)")
    return splits


def _stored(reader: hdf5.Reader, layers: dict, split: str, files: Pool) -> Source:
    """Return a source of the activations that `record` stored for a split."""
    path = reader.path
    if not layers:
        raise BadInput(f"{path}: holds no array (samples, ..., units)")
    dataset: dict = schema.read(schema.OF_KIND[reader.kind], reader).dataset
    readers = {name: files.rows_of(path, array) for name, array in layers.items()}

    def read(wanted: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: placement.to_device(readers[name](start, stop)) for name in wanted}

    return Source(
        path=path,
        layers={name: array.shape[-1] for name, array in layers.items()},
        samples={name: array.shape[0] for name, array in layers.items()},
        copies=_copies(split),
        stored=True,
        inputs=f"{dataset['checksum']}/{split}",
        read=read,
        held=max(rows.held for rows in readers.values()),
        release=partial(forget, readers.values()),
    )


def computed(path: str, split: str, tap: str, dataset: str | None = None) -> Source:
    """Return a source that runs a network over a split of its data set. `dataset`: its path, if it has moved."""
    loaded = networks.load(path)
    images = dataset_of(loaded, dataset)
    return _running(path, loaded.network, lambda: networks.load(path).arrays, loaded.standard, images, split, tap)


def of_network(
    path: str,
    network: Network,
    weights: Mapping[str, np.ndarray],
    standard: Standardisation,
    images: Dataset,
    split: str,
    tap: str,
) -> Source:
    """Return a source that runs a network with arrays `weights` (1, ...) over a split of a data set."""
    return _running(path, network, lambda: weights, standard, images, split, tap)


def _running(
    path: str,
    network: Network,
    weights: Callable[[], Mapping[str, np.ndarray]],
    standard: Standardisation,
    images: Dataset,
    split: str,
    tap: str,
) -> Source:
    """Return a source that runs a network. weights: returns its arrays (1, ...), again after each pass."""
    part = getattr(images, split.partition("-")[0])
    taps = {name: network.tap(name, tap) for name in network.layers}
    at_once = cost.evaluated_at_once(network)
    weights_on_device = cache(lambda: placement.tree_to_device(weights()))

    def activations_of(layers: Sequence[str], rows: range) -> dict[str, np.ndarray]:
        x, _ = probe_batch(part, standard, rows, shifted=_copies(split) > 1)
        wanted = {name: taps[name] for name in layers}
        last = max(wanted.values(), key=[node.name for node in network.nodes].index)
        _, kept, _ = forward(network, weights_on_device(), x, keep=set(wanted.values()), until=last)
        return {name: kept[node][0] for name, node in wanted.items()}

    def read(layers: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        parts = [
            activations_of(layers, range(first, min(first + at_once, stop))) for first in range(start, stop, at_once)
        ]
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in layers}

    return Source(
        path=path,
        layers={name: place.units for name, place in network.layers.items()},
        samples=dict.fromkeys(network.layers, len(part.labels) * _copies(split)),
        copies=_copies(split),
        stored=False,
        inputs=f"{images.checksum}/{split}",
        read=read,
        held=cost.FLOAT_BYTES * sum(math.prod(weight.shape) for weight in network.weights.values()),
        release=weights_on_device.cache_clear,
    )


def record_files(
    targets: Mapping[str, Path],
    *,
    layers: Sequence[str] = EVERY,
    split: str = "test",
    tap: str = "post",
    samples: int | None = None,
    dataset: str | None = None,
    command: str = "",
    force: bool = False,
    make_folders: bool = False,
) -> Iterator[dict]:
    """Write the activations of each network into its own file, and yield a record for each file.

    targets: the file to write, by the path of the network. layers: patterns of `names.choose`. samples None: all of the
    split. make_folders: make missing folders of the files. Raises BadInput as `narrow` does, and if a file exists,
    unless `force`.
    """
    for path, target in targets.items():
        source = narrow(chosen(computed(path, split, tap, dataset), layers), samples)
        checksum = str(source.inputs).partition("/")[0]
        if make_folders:
            target.parent.mkdir(exist_ok=True)
        kinds.require_target(target, kinds.ACTIVATIONS, force, targets)
        with writing(target, force) as writer:
            writer.attributes(
                {
                    "kind": hdf5.ACTIVATIONS,
                    "network": printable(path),
                    "dataset": {"checksum": checksum},
                    "command": command,
                }
            )
            record(writer, source, split, tap)
        yield {
            "path": str(target),
            "network": path,
            "split": split,
            "tap": tap,
            "samples": next(iter(source.samples.values())),
            "layers": ",".join(source.layers),
        }


def record(writer: Writer, source: Source, split: str, tap: str) -> None:
    """Write all layers of a source into a file, a chunk of samples at a time."""
    row = sum(values.nbytes for values in source.read(list(source.layers), 0, 1).values())
    read = source.chunks(list(source.layers), max(1, min(RECORDED_AT_ONCE, RECORDED_BYTES // row)))
    chunks = ({name: placement.to_host(values) for name, values in chunk.items()} for chunk in read)
    first = next(chunks)
    shapes = {name: (source.samples[name], *values.shape[1:]) for name, values in first.items()}
    writer.activations(split, tap, shapes, chain([first], chunks))


def _copies(split: str) -> int:
    return len(SHIFTS) if split.endswith("-shifts") else 1


def chosen(source: Source, layers: Sequence[str]) -> Source:
    """Return a source with the layers that patterns choose (`names.choose`). Raises BadInput if they choose none."""
    wanted = choose(source.layers, layers, source.path)
    return replace(
        source,
        layers={name: source.layers[name] for name in wanted},
        samples={name: source.samples[name] for name in wanted},
    )


def narrow(source: Source, samples: int | None) -> Source:
    """Return a source with its first `samples` samples (None: all). Raises BadInput if a layer has fewer."""
    if samples is None:
        return source
    for layer, count in source.samples.items():
        if samples > count:
            raise BadInput(f"{source.path}: layer {layer} has {count} samples, fewer than the {samples} asked for")
    return replace(source, samples=dict.fromkeys(source.samples, samples))
