"""Write HDF5 files (docs/format.md): networks, activations, results.

A file is written under a temporary name in the same folder, sealed with digests and then renamed, so it is either
complete or absent.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from basiscli import __version__, atomic
from basiscli.errors import BadInput
from basiscli.files.hdf5 import FORMAT, RESULTS
from basiscli.files.sink import Sink
from basiscli.files.targets import require_new

# Compression and reading work on whole chunks of about this size.
CHUNK_BYTES = 1 << 20


class Writer:
    """An HDF5 file being written; see `writing`."""

    def __init__(self, file: h5py.File, sink: Sink):
        self._file, self._sink = file, sink

    def attributes(self, values: Mapping[str, Any], path: str = "/") -> None:
        """Set attributes of a group or array; dicts and lists are stored as JSON."""
        attributes = self._file[path].attrs
        for name, value in values.items():
            text = json.dumps(value) if isinstance(value, dict | list) else value
            attributes[name] = _fixed_length(text) if isinstance(text, str) else text

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
            name = f"activations/{split}/{layer}"
            arrays[layer] = self._create(name, shape, np.float32, compressed=tap == "post")
            self.attributes({"tap": tap}, name)
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
        filters = {"compression": "lzf", "shuffle": True} if compressed else {}
        return self._file.create_dataset(path, shape, dtype, chunks=chunk, **filters)


@contextmanager
def writing(path: str | Path, force: bool = False) -> Iterator[Writer]:
    """Open a new file for writing. On success the file gets its digests and its name; after a failure nothing remains.

    Raises BadInput if the file exists (unless `force`), its folder is missing or not writable, or the disk is full.
    """
    target = Path(path)
    require_new(target, force)
    try:
        with atomic.replacing(target) as partial, Sink(partial) as sink:
            file = h5py.File(sink, "w", track_order=True)
            try:
                writer = Writer(file, sink)
                writer.attributes({"format": FORMAT, "basiscli": __version__})
                yield writer
            finally:
                file.close()
            sink.seal()
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


def _fixed_length(text: str) -> np.ndarray:
    """Return a string as HDF5 stores it inside an attribute. A string of variable length would lie elsewhere."""
    content = text.encode(errors="surrogateescape")
    return np.array(content, h5py.string_dtype("utf-8", max(1, len(content))))
