"""Activations that another program wrote: HDF5, .npz and .npy files with arrays (samples, ..., units).

Members that are no arrays of numbers are left out with a note. If the user names such a member, that is an error. The
shapes of the arrays decide whether activations of images are read as (samples, H, W, channels) or as (samples,
channels, H, W).
"""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from basiscli.analysis.measures import floats
from basiscli.data.axes import FIRST, told
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files.hdf5 import Reader
from basiscli.files.pool import Pool
from basiscli.files.rows import RowReader, forget
from basiscli.files.source import Source
from basiscli.files.tree import Unreadable
from basiscli.names import choose, natural

# An array with one of these names and one value for each sample identifies the samples.
IDS = ("ids", "labels")
# An array with this many times more units than samples is probably transposed.
TRANSPOSED = 8
LISTED = 5
# Files that cannot be read, by the ending of their names, and the way out.
ELSEWHERE = {
    ".pt": "a PyTorch file; in PyTorch, numpy.savez('activations.npz', **{name: x.numpy() for name, x in ...}) writes "
    "a file that can be read",
    ".safetensors": "a file of safetensors; numpy.savez('activations.npz', **safetensors.numpy.load_file(...)) writes "
    "a file that can be read",
    ".keras": "a Keras model, which holds weights; save what its layers give, an array a layer, with numpy.savez",
}
ELSEWHERE[".pth"] = ELSEWHERE[".pt"]

# Reads what cannot be read.
NOTHING = RowReader(lambda start, stop: np.empty((0, 0)), 0, 0, 0)


@dataclass(frozen=True)
class Array:
    """An array of a file.

    read: reads rows. problem: the reason why the array is no layer, None for a layer. note: a line
    for the user about an array that is read.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: RowReader
    problem: str | None = None
    note: str | None = None


def source_of(
    path: str,
    arrays: Mapping[str, Array],
    layers: Sequence[str],
    channels: str | None = None,
    ids: str | None = None,
) -> Source:
    """Return the source of a file's arrays, with the layers that patterns choose.

    channels: FIRST, LAST, or None to let the shapes decide. ids: the name of the array that identifies the samples.
    Raises BadInput if no chosen member is an array of numbers, or if the array `ids` does not exist.
    """
    judged = {name: _judged(array) for name, array in arrays.items()}
    good = {name: array for name, array in judged.items() if array.problem is None}
    for name in layers:
        if name in judged and name not in good:
            raise BadInput(f"{path}: {name} {judged[name].problem}")
    if not good:
        problems = "; ".join(f"{name} {array.problem}" for name, array in list(judged.items())[:LISTED])
        raise BadInput(f"{path}: holds no array (samples, ..., units)" + (f": {problems}" if problems else ""))
    chosen = {name: good[name] for name in choose(good, layers, path)}
    first = {name for name, array in chosen.items() if _channels_first(array.shape, channels, chosen)}
    identity = _identity(path, arrays, chosen, ids)
    notes = [
        *_left_out(path, {name: array for name, array in judged.items() if name not in good and name not in IDS}),
        *_reading(path, chosen, first, channels),
        *(f"{path}: {name} {array.note}" for name, array in chosen.items() if array.note),
    ]

    def read(wanted: Sequence[str], start: int, stop: int) -> dict[str, np.ndarray]:
        return {
            name: placement.to_device(floats(_units_last(chosen[name].read(start, stop), name in first)))
            for name in wanted
        }

    return Source(
        path=path,
        layers={name: array.shape[1 if name in first else -1] for name, array in chosen.items()},
        samples={name: array.shape[0] for name, array in chosen.items()},
        copies=1,
        stored=True,
        inputs=None,
        read=read,
        ids=identity,
        held=max(array.read.held for array in chosen.values()),
        release=partial(forget, [array.read for array in chosen.values()]),
        notes=tuple(notes),
    )


def of_hdf5(reader: Reader, files: Pool) -> dict[str, Array]:
    """Return the members of another program's HDF5 file, by path. Their rows are read from a pool's files."""
    arrays = {}
    for name, node in reader.members().items():
        if isinstance(node, Unreadable):
            arrays[name] = Array((), np.dtype(object), NOTHING, problem=f"cannot be read: {node}")
            continue
        try:
            reader.require_numbers(node)
            problem = None
        except BadInput as error:
            problem = str(error).removeprefix(f"{reader.path}: ").removeprefix(f"{node.name} ")
        with reader.checked(name):
            if problem:
                arrays[name] = Array(node.shape or (), np.dtype(object), NOTHING, problem)
            else:
                rows = files.rows_of(reader.path, node)
                arrays[name] = Array(node.shape, node.dtype, rows, None, reader.unwritten(node))
    return arrays


def of_numpy(path: str) -> dict[str, Array]:
    """Return the arrays of an .npz or .npy file, by name. Nothing is unpickled. Raises BadInput for a damaged file."""
    try:
        if Path(path).suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            rows = RowReader(partial(_rows_of_npy, path), len(array) if array.ndim else 0, 1, array.nbytes)
            return {Path(path).stem: Array(array.shape, array.dtype, rows)}
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            headers = {name: _header(archive, f"{name}.npy") for name in names}
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: cannot be read ({error})") from error
    return {name: Array(*headers[name], _member(path, name, *headers[name])) for name in sorted(headers, key=natural)}


def _member(path: str, name: str, shape: tuple[int, ...], dtype: np.dtype) -> RowReader:
    """Return what reads rows of an array of an .npz file: the array is one chunk, since it is unpacked as a whole."""

    def read(start: int, stop: int) -> np.ndarray:
        try:
            with np.load(path, allow_pickle=False) as file:
                return file[name][start:stop]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise BadInput(f"{path}: {name} is damaged ({error}); make the file anew") from error

    rows = shape[0] if shape else 0
    return RowReader(read, rows, rows, math.prod(shape) * dtype.itemsize, whole=True)


def _rows_of_npy(path: str, start: int, stop: int) -> np.ndarray:
    """Return rows of an .npy file, which is open for this long only."""
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start:stop])


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        return shape, dtype


def _judged(array: Array) -> Array:
    """Return an array with its `problem` or its `note` filled in, if it has any."""
    if array.problem:
        return array
    if array.dtype.kind not in "fiub":
        return replace(array, problem=f"holds {array.dtype}, not numbers")
    if len(array.shape) < 2 or 0 in array.shape:
        return replace(array, problem=f"has the shape {array.shape}, not (samples, ..., units)")
    samples, units = array.shape[0], array.shape[-1]
    if len(array.shape) == 2 and units >= TRANSPOSED * samples:
        return replace(array, note=f"has {samples:,} samples of {units:,} units: is it transposed?")
    return array


def _channels_first(shape: tuple[int, ...], channels: str | None, layers: Mapping[str, Array]) -> bool:
    """Return whether axis 1 holds the units. If the shape does not decide it, the other layers of the file do."""
    if channels or len(shape) < 3:
        return channels == FIRST and len(shape) > 2
    own = told(shape)
    if own is None and len(shape) > 3:
        others = {told(array.shape) for array in layers.values()} - {None}
        own = others.pop() if len(others) == 1 else None
    return own == FIRST


def _units_last(values: np.ndarray, first: bool) -> np.ndarray:
    return np.moveaxis(values, 1, -1) if first else values


def _identity(
    path: str, arrays: Mapping[str, Array], layers: Mapping[str, Array], name: str | None
) -> tuple[str, np.ndarray] | None:
    """Return the name and the values of the array that identifies the samples: the array `name`, or one of IDS."""
    if name is not None and name not in arrays:
        raise BadInput(f"{path}: has no array {name} to tell its samples apart")
    lengths = {array.shape[0] for array in layers.values()}
    for candidate in (name,) if name else IDS:
        array = arrays.get(candidate)
        if array is not None and array.problem is None and array.shape in {(length,) for length in lengths}:
            return candidate, np.asarray(array.read(0, array.shape[0]))
    if name is not None:
        raise BadInput(f"{path}: {name} has the shape {arrays[name].shape}, not one value for each sample")
    return None


def _left_out(path: str, bad: Mapping[str, Array]) -> list[str]:
    if not bad:
        return []
    listed = "; ".join(f"{name} {array.problem}" for name, array in list(bad.items())[:LISTED])
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    return [f"{path}: left out what is no layer: {listed}{more}"]


def _reading(path: str, layers: Mapping[str, Array], first: set[str], channels: str | None) -> list[str]:
    """Return notes on the order of axes that was assumed, for each layer that allows another order."""
    if channels:
        return []
    notes = []
    if first:
        notes.append(
            f"{path}: read as (samples, channels, ...), channels first: {', '.join(sorted(first, key=natural))}"
        )
    doubtful = [
        name for name, array in layers.items()
        if name not in first and len(array.shape) > 3 and told(array.shape) is None
    ]  # fmt: skip
    if doubtful:
        notes.append(
            f"{path}: read as (samples, ..., channels), channels last: {', '.join(doubtful)}; shapes do not tell"
        )
    return notes
