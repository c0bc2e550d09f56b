"""Readers for the file types of data sets: IDX, CIFAR's binary records, .npz archives.

All readers are strict: they refuse a file that does not hold exactly the expected data. A size that a file declares is
first compared with the expected size or with the bytes of the file, and only then allocated. Nothing is unpickled.
"""

import gzip
import math
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from basiscli.errors import BadInput

KEYS = ("train/images", "train/labels", "test/images", "test/labels")
PIXELS = (3, 32, 32)  # a CIFAR image: the red, the green and the blue plane, row by row

# The exceptions of the standard library for damaged files. BadGzipFile is also an OSError.
DAMAGE = (
    EOFError,
    RuntimeError,
    ValueError,
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)

# Deflate can shrink zeros a thousandfold. So an archive that unpacks to more than UNPACKED_BYTES may not unpack to more
# than UNPACKED_RATIO times its size.
UNPACKED_BYTES = 64 * 2**20
UNPACKED_RATIO = 100


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors during the reading of a file into BadInput that names the file."""
    try:
        yield
    except BadInput:
        raise
    except DAMAGE as error:
        raise BadInput(f"{path}: damaged or cut short ({error}); get a fresh copy") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error


def unpacked(path: Path):
    """Open a file for reading. A .gz file is unpacked on the way."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def read_idx(path: Path, shape: Sequence[int]) -> np.ndarray:
    """Return the uint8 array of an IDX file, plain or .gz: 0, 0, 8, the number of axes, big-endian sizes, the bytes.

    Raises BadInput for a wrong magic number, for sizes other than `shape`, for missing and for trailing bytes.
    """
    count = math.prod(shape)
    with reading(path), unpacked(path) as stream:
        magic, sizes = stream.read(4), stream.read(4 * len(shape))
        if magic != bytes([0, 0, 8, len(shape)]):
            raise BadInput(f"{path}: not an IDX file of bytes with {len(shape)} axes (it starts with {magic.hex(' ')})")
        if len(sizes) == 4 * len(shape) and (declared := struct.unpack(f">{len(shape)}I", sizes)) != tuple(shape):
            raise BadInput(f"{path}: declares {_times(declared)} values, but this file has {_times(shape)}")
        body = stream.read(count + 1)  # one byte more than expected: this also checks the checksum at the end of a .gz
    _check_length(path, len(body), count)
    return np.frombuffer(body, np.uint8).reshape(shape).copy()


def read_idx_labels(path: Path, count: int, classes: int) -> np.ndarray:
    """Return the `count` labels of an IDX file, int64; raises BadInput as `read_idx` and for a label out of range."""
    return _labels(path, read_idx(path, (count,)), classes)


def read_cifar(path: Path, count: int, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return images (count, 32, 32, 3) uint8 and labels (count,) int64 of a CIFAR binary file.

    A record has one byte for each kind of label, the finest last, then 1,024 bytes for each of the red, the green and
    the blue plane (https://www.cs.toronto.edu/~kriz/cifar.html). `classes` counts the classes of each kind of label.

    Raises BadInput if the file does not hold exactly `count` records or a label is out of range.
    """
    width = len(classes) + math.prod(PIXELS)
    with reading(path), path.open("rb") as stream:
        body = stream.read(count * width + 1)
    _check_length(path, len(body), count * width)
    records = np.frombuffer(body, np.uint8).reshape(count, width)
    for column, limit in enumerate(classes):
        labels = _labels(path, records[:, column], limit)
    planes = records[:, len(classes) :].reshape(count, *PIXELS)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the four KEYS in an .npz file. Other members are not read.

    Raises BadInput for a missing or damaged member, for members that do not hold plain numbers, and for an archive that
    unpacks to far more than its size.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        members = {key: _member(path, archive, key) for key in KEYS}
        total = sum(member.file_size for member in members.values())
        if total > max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size):
            raise BadInput(
                f"{path}: would unpack to {total:,} bytes, over {UNPACKED_RATIO} times its size; "
                "store it uncompressed with numpy.savez if it is meant to"
            )
        for key, member in members.items():
            _check_member(path, archive, key, member)
        return {key: _read_member(archive, member) for key, member in members.items()}


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    if f"{key}.npy" not in archive.namelist():
        members = ", ".join(repr(name.removesuffix(".npy")) for name in archive.namelist()[:6]) or "nothing"
        raise BadInput(f"{path}: no array {key!r} in it; it needs {', '.join(KEYS)} and holds {members}")
    return archive.getinfo(f"{key}.npy")


def _check_member(path: Path, archive: zipfile.ZipFile, key: str, member: zipfile.ZipInfo) -> None:
    """Raise BadInput unless an array is of plain numbers and its declared shape fills its bytes exactly."""
    with archive.open(member) as stream:
        try:
            shape, dtype = _header(stream)
        except Exception as error:
            # numpy evaluates the header as a Python literal: a damaged one can raise nearly anything.
            raise BadInput(f"{path}: {key} is not a readable .npy array ({type(error).__name__})") from error
        if dtype.kind not in "biuf":
            raise BadInput(f"{path}: {key} holds {dtype}, not numbers")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
            raise BadInput(f"{path}: {key} declares the shape {shape}, which does not fit its bytes; get a fresh copy")


def _header(stream) -> tuple[tuple[int, ...], np.dtype]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings on odd escapes and old dtypes in a damaged header
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version}")  # 3.0 is only written for records with Unicode names
    return shape, dtype


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _labels(path: Path, labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.max() >= classes:
        first = int(np.argmax(labels >= classes))
        raise BadInput(f"{path}: label {labels[first]} of image {first} is out of range (0 to {classes - 1})")
    return labels.astype(np.int64)


def _check_length(path: Path, length: int, expected: int) -> None:
    if length < expected:
        raise BadInput(f"{path}: cut short, {length:,} of {expected:,} bytes of data; get a fresh copy")
    if length > expected:
        raise BadInput(f"{path}: bytes left over after the {expected:,} bytes of data; get a fresh copy")


def _times(shape: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in shape)
