"""The HDF5 files (docs/format.md): networks, activations, results. Nothing else imports h5py.

A file is written under a temporary name in the same folder and then renamed, so it is either complete or absent.
Reading trusts nothing: links, virtual and external data, strange types and damaged bytes are refused with a line that
names them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from basiscli import __version__, atomic
from basiscli.errors import BadInput
from basiscli.files.sink import Sink
from basiscli.files.targets import require_new
from basiscli.names import natural

FORMAT = 1
NETWORK, ACTIVATIONS, RESULTS = "network", "activations", "results"
# Checksums, compression and reading work on whole chunks of about this size.
CHUNK_BYTES = 1 << 20


class Writer:
    """An HDF5 file being written; see `writing`."""

    def __init__(self, file: h5py.File, sink: "Sink"):
        self._file, self._sink = file, sink

    def attributes(self, values: Mapping[str, Any], path: str = "/") -> None:
        """Set attributes of a group or array; dicts and lists are stored as JSON."""
        attributes = self._file[path].attrs
        for name, value in values.items():
            attributes[name] = json.dumps(value) if isinstance(value, dict | list) else value

    def array(self, path: str, values: np.ndarray) -> None:
        """Store a whole array."""
        values = np.asarray(values)
        if not values.size:
            self._file.create_dataset(path, data=values)
            return
        self._create(path, values.shape, values.dtype, compressed=False)[...] = values

    def arrays(self, group: str, values: Mapping[str, np.ndarray]) -> None:
        """Store arrays in a group. The group is made even if there are no arrays."""
        self._group(group)
        for name, array in values.items():
            self.array(f"{group}/{name}", array)

    def activations(
        self, split: str, tap: str, shapes: Mapping[str, tuple[int, ...]], chunks: Iterable[Mapping[str, np.ndarray]]
    ) -> None:
        """Store the activations of layers, (samples, ..., units) float32, from chunks along the samples.

        About half of the activations after a ReLU are zeros, so LZF, a fast compression, makes the file smaller.
        Activations of the tap `pre` are stored without compression.
        """
        arrays = {}
        for layer, shape in shapes.items():
            arrays[layer] = self._create(f"activations/{split}/{layer}", shape, np.float32, compressed=tap == "post")
            arrays[layer].attrs["tap"] = tap
        start = 0
        for chunk in chunks:
            for layer, values in chunk.items():
                arrays[layer][start : start + len(values)] = values
            self._sink.check()
            start += len(next(iter(chunk.values())))

    def remove(self, group: str) -> None:
        """Take a group with all its arrays out of the file, if it exists."""
        self._file.pop(group, None)

    def _group(self, path: str) -> None:
        """Make a group and its parents unless they exist. Members keep the order in which they are written."""
        above = path.rpartition("/")[0]
        if path and path not in self._file:
            self._group(above)
            self._file.create_group(path, track_order=True)

    def _create(self, path: str, shape: tuple[int, ...], dtype, compressed: bool) -> h5py.Dataset:
        self._group(path.rpartition("/")[0])
        row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        chunk = (min(shape[0], max(1, CHUNK_BYTES // max(row, 1))), *shape[1:]) if shape else None
        if chunk is None:
            return self._file.create_dataset(path, shape, dtype)
        filters = {"compression": "lzf", "shuffle": True} if compressed else {}
        return self._file.create_dataset(path, shape, dtype, chunks=chunk, fletcher32=True, **filters)


@contextmanager
def writing(path: str | Path, force: bool = False) -> Iterator[Writer]:
    """Open a new file for writing. On success the file gets its name; after a failure nothing remains.

    Raises BadInput if the file exists (unless `force`), its folder is missing or not writable, or the disk is full.
    """
    target = Path(path)
    require_new(target, force)
    try:
        with atomic.replacing(target) as partial, Sink(partial) as sink:
            file = h5py.File(sink, "w", track_order=True)
            try:
                file.attrs["format"] = FORMAT
                file.attrs["basiscli"] = __version__
                yield Writer(file, sink)
            finally:
                file.close()
            sink.check()
    except OSError as error:
        raise BadInput(f"{target}: cannot be written ({error.strerror or error})") from error


def save_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any], force: bool = False
) -> None:
    """Write the results of an analysis: named arrays, and attributes of the file."""
    with writing(path, force) as file:
        file.attributes({"kind": RESULTS, **attributes})
        for name, values in arrays.items():
            file.array(name, values)


# The exceptions of libhdf5 and h5py for damaged files. The place of the damage decides which is raised.
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError, MemoryError, OverflowError)
# An array that declares more than _UNCHECKED_BYTES must store at least a thousandth of them. Otherwise a damaged or
# hostile shape could ask for any amount of memory. (LZF packs at most about 1:100.)
_UNCHECKED_BYTES, _LARGEST_RATIO = 1 << 24, 1000


class Unreadable(str):
    """The reason why a member of a file is not read, as the end of a message."""


class Reader:
    """An HDF5 file open for reading. Every access checks the data that it reads. See `reading`."""

    def __init__(self, file: h5py.File, path: str):
        self._file = file
        self.path = path

    @property
    def kind(self) -> str:
        """Return "network", "activations" or "results" for files of basiscli, "arrays" for files of other programs."""
        return str(self.attribute("kind")) if self.ours else "arrays"

    @property
    def ours(self) -> bool:
        """Whether basiscli wrote the file. The attribute `format` alone is no proof: other programs may use it, too."""
        with self.checked("the file"):
            attributes = self._file.attrs
            return "format" in attributes and "basiscli" in attributes

    def attribute(self, name: str, path: str = "/", default=None):
        """Return an attribute as a plain Python value, or `default` if it does not exist."""
        with self.checked(f"the attribute {name}"):
            value = self._file[path].attrs.get(name, default)
            if isinstance(value, h5py.Empty):
                raise ValueError("empty")
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            return value.item() if isinstance(value, np.generic) else value

    def json(self, name: str, default: str | None = None) -> dict:
        """Return the JSON object in an attribute. `default` is the JSON text that replaces a missing attribute."""
        with self.checked(f"the attribute {name}"):
            value = json.loads(self.attribute(name, default=default))
            if not isinstance(value, dict):
                raise ValueError("no JSON object")
            return value

    def datasets(self, group: str = "/") -> dict[str, h5py.Dataset]:
        """Return all arrays below a group by their path within it. The dict is empty if the group does not exist.

        Raises BadInput for links and for arrays stored in other files: they could read any file of the user.
        """
        root = self._child(group)
        arrays = self._walk(root) if isinstance(root, h5py.Group) else {}
        for node in arrays.values():
            if isinstance(node, Unreadable):
                raise BadInput(f"{self.path}: {node}")
        return arrays

    def members(self) -> "dict[str, h5py.Dataset | Unreadable]":
        """Return all members of another program's file that are no groups, by path, in the file's order.

        This is the order of writing if the file keeps it, otherwise the natural order of names. Links within the file
        are followed. Members in other files come as `Unreadable`, so that the user can read the rest.
        """
        return self._walk(self._file["/"], follow=True)

    def array(self, path: str) -> np.ndarray:
        """Return a whole array of numbers."""
        node = self._child(path)
        if not isinstance(node, h5py.Dataset):
            raise BadInput(f"{self.path}: no array {path}")
        with self.checked(self.require_numbers(node).name):
            return node[()]

    def arrays(self, group: str) -> dict[str, np.ndarray]:
        """Return all arrays below a group."""
        return {name: self.array(f"{group}/{name}") for name in self.datasets(group)}

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows of an array that `require_numbers` accepted, by its path."""
        with self.checked(name):
            return self._file[name][start:stop]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def require_numbers(self, dataset: h5py.Dataset) -> h5py.Dataset:
        """Return the array if it holds numbers and lies in this file. Raises BadInput otherwise."""
        with self.checked(dataset.name):
            if dataset.is_virtual or dataset.external:
                raise BadInput(f"{self.path}: {dataset.name} lies in other files; only the file itself is read")
            if dataset.dtype.kind not in "fiub":
                raise BadInput(f"{self.path}: {dataset.name} holds {dataset.dtype}, not numbers")
            declared, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
            if declared > _UNCHECKED_BYTES and declared > _LARGEST_RATIO * stored:
                raise BadInput(f"{self.path}: {dataset.name} declares {declared} bytes and holds {stored}, no data")
            return dataset

    def unwritten(self, dataset: h5py.Dataset) -> str | None:
        """Return a note on the number of chunks of an array that were never written, None if all were."""
        with self.checked(dataset.name):
            if not dataset.chunks:
                return None
            grid = zip(dataset.shape, dataset.chunks, strict=True)
            count, written = prod(-(-side // chunk) for side, chunk in grid), dataset.id.get_num_chunks()
            return (
                f"has {count - written} of {count} chunks that nobody wrote; they read as {dataset.fillvalue}"
                if written < count
                else None
            )

    @contextmanager
    def checked(self, what: str) -> Iterator[None]:
        """Turn the errors of libhdf5, h5py and conversions on damaged files into BadInput that names `what`."""
        try:
            yield
        except BadInput:
            raise
        except _DAMAGE as error:
            raise BadInput(f"{self.path}: {what} is damaged ({_reason(error)}); make the file anew") from error

    def _child(self, path: str) -> h5py.Group | h5py.Dataset | None:
        """Return the member at a path from the root, None if it does not exist."""
        node = self._file
        for name in filter(None, path.split("/")):
            with self.checked(name):
                if not isinstance(node, h5py.Group) or name not in node:
                    return None
                node = self._own(node, name)
        return node

    def _own(self, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
        """Return a member of a group. Raises BadInput for a link."""
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise BadInput(f"{self.path}: {name} is a link; only what lies in the file itself is read")
        return group[name]

    def _linked(self, group: h5py.Group, name: str) -> "h5py.Group | h5py.Dataset | Unreadable":
        """Return a member of a group. A link within the file is followed; any other link is `Unreadable`."""
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return Unreadable(f"{group.name.rstrip('/')}/{name} is a link to another file, which is not read")
        if isinstance(link, h5py.SoftLink):
            try:
                group[name]
            except KeyError:
                return Unreadable(f"{group.name.rstrip('/')}/{name} is a link to {link.path}, which is not there")
            if group[name].file.filename != self._file.filename:
                return Unreadable(f"{group.name.rstrip('/')}/{name} is a link to another file, which is not read")
        return group[name]

    def _walk(self, root: h5py.Group, follow: bool = False) -> "dict[str, h5py.Dataset | Unreadable]":
        nodes: dict[str, h5py.Dataset | Unreadable] = {}
        visited = set()
        waiting = [("", root)]
        while waiting:
            path, node = waiting.pop()
            if not isinstance(node, h5py.Group):
                if isinstance(node, h5py.Dataset | Unreadable):
                    nodes[path] = node
                continue
            with self.checked(path or "the file"):
                place = h5py.h5o.get_info(node.id).addr
                if place in visited:  # a group may contain itself
                    continue
                visited.add(place)
                member = self._linked if follow else self._own
                inside = [(f"{path}/{name}" if path else name, member(node, name)) for name in _ordered(node)]
            waiting += reversed(inside)
        return nodes


@contextmanager
def reading(path: str | Path) -> Iterator[Reader]:
    """Open a file for reading; see `open_reader`."""
    reader = open_reader(path)
    try:
        yield reader
    finally:
        reader.close()


def open_reader(path: str | Path) -> Reader:
    """Open a file for reading. Raises BadInput if it is missing, no HDF5, truncated, or of a newer format."""
    path = str(path)
    if not Path(path).exists():
        raise BadInput(f"{path}: no such file")
    if Path(path).is_dir():
        raise BadInput(f"{path}: is a folder, not a file; name its .h5 files")
    try:
        if not h5py.is_hdf5(path):
            raise BadInput(f"{path}: no HDF5 file")
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{path}: cannot be read ({_reason(error)})") from error
    reader = Reader(file, path)
    version = reader.attribute("format") if reader.ours else FORMAT
    if not isinstance(version, int) or version > FORMAT:
        raise BadInput(f"{path}: has format {version}, this version reads up to {FORMAT}; upgrade basiscli")
    return reader


def _ordered(group: h5py.Group) -> list[str]:
    """Return the names in a group in the order of writing if the file keeps it, otherwise in natural order."""
    tracked = group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
    return list(group) if tracked else sorted(group, key=natural)


def _reason(error: Exception) -> str:
    """Return the part of an HDF5 error that a user can act on."""
    text = " ".join(str(error).split())
    # The reason stands in brackets: "Unable to synchronously open file (truncated file: eof = 96, ...)".
    start, end = text.find("("), text.rfind(")")
    return text[start + 1 : end] if 0 <= start < end else text or type(error).__name__
