"""A data set in memory: two splits of labelled images. All checks of the arrays are made here, once."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from basiscli.data.axes import FIRST, told_of_images
from basiscli.data.readers import KEYS
from basiscli.errors import BadInput
from basiscli.notes import log

CLASSES = 1000  # larger labels that also exceed the number of images are a mistake: each class costs an output


@dataclass(frozen=True)
class Split:
    """Images (N, H, W, C), uint8 or float32, and their labels (N,), int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Two splits of one kind of image: the same H, W, C and dtype in both, labels in 0..classes-1.

    `checksum` is the SHA-256 over the dtypes, shapes and bytes of the four arrays: it identifies the data,
    independent of the file. `channels` is the axis that the user told for this file, None if the shapes told it.
    """

    name: str
    train: Split
    test: Split
    classes: int
    checksum: str
    channels: str | None = None


def from_arrays(name: str, arrays: Mapping[str, np.ndarray], channels: str | None = None) -> Dataset:
    """Return the data set made of four arrays: train/images, train/labels, test/images, test/labels.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floating (converted to float32); labels are whole
    numbers (N,) from 0. There are max(label) + 1 classes, over both splits. An array that needs no conversion is not
    copied. channels: FIRST, LAST, or None to let the shape decide: 1 or 3 channels, else the square that the others
    form, else last. Where another reading is possible, a note says how images were read.

    Raises BadInput, with `name` and the key, for a missing or empty array, another shape or type, values that are not
    finite in float32, different sizes, negative labels, and labels far beyond the number of images.
    """
    if missing := [key for key in KEYS if key not in arrays]:
        raise BadInput(f"{name}: {', '.join(missing)} missing; a data set has the arrays {', '.join(KEYS)}")
    first = _channels_first(name, np.shape(arrays["train/images"]), channels)
    train, test = (
        Split(
            _images(f"{name}: {split}/images", arrays[f"{split}/images"], first),
            _labels(f"{name}: {split}/labels", arrays[f"{split}/labels"]),
        )
        for split in ("train", "test")
    )
    for key, split in (("train", train), ("test", test)):
        if len(split.images) != len(split.labels):
            raise BadInput(f"{name}: {key} has {len(split.images):,} images but {len(split.labels):,} labels")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise BadInput(
            f"{name}: images of {train.images.shape[1:]} in train but of {test.images.shape[1:]} in test (H, W, C)"
        )
    if train.images.dtype != test.images.dtype:
        raise BadInput(f"{name}: train/images are {train.images.dtype}, test/images {test.images.dtype}; use one type")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    if classes > max(CLASSES, len(train.labels) + len(test.labels)):
        raise BadInput(f"{name}: labels up to {classes - 1:,}, more than there are images; number the classes from 0")
    return Dataset(name, train, test, classes, _checksum(train, test), channels)


def _channels_first(name: str, shape: tuple[int, ...], channels: str | None) -> bool:
    """Return whether images are (N, C, H, W). A note says how they are read, unless only one reading is likely."""
    if channels or len(shape) != 4:
        return channels == FIRST and len(shape) == 4
    read = told_of_images(shape)
    if read == FIRST:
        log.warning(f"{name}: images {shape} read as (N, C, H, W), channels first; `channels` last reads (N, H, W, C)")
    elif read is None:
        log.warning(f"{name}: images {shape} read as (N, H, W, C), channels last; no shape tells, see `channels`")
    return read == FIRST


def _images(what: str, array: np.ndarray, first: bool) -> np.ndarray:
    """Return images (N, H, W, C). first: whether they are (N, C, H, W)."""
    array = np.asarray(array)
    if array.ndim not in (3, 4) or array.size == 0:
        raise BadInput(f"{what} has the shape {array.shape}; expected (N, H, W) or (N, H, W, C), none of them 0")
    if first and array.ndim == 4:
        array = np.moveaxis(array, 1, -1)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is refused below
            array = array.astype(np.float32, copy=False)
        if bad := array.size - int(np.count_nonzero(np.isfinite(array))):
            raise BadInput(f"{what} holds {bad:,} values that are NaN or infinite in float32")
    elif array.dtype != np.uint8:
        raise BadInput(f"{what} is {array.dtype}; convert it to uint8 (0 to 255) or float32")
    return np.ascontiguousarray(array if array.ndim == 4 else array[..., None])


def _labels(what: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "iu":
        raise BadInput(f"{what} is {array.dtype}; labels are whole numbers from 0")
    if array.ndim != 1 or array.size == 0:
        raise BadInput(f"{what} has the shape {array.shape}; expected (N,), one label an image")
    if array.min() < 0 or array.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{what} runs from {array.min()} to {array.max()}; labels are whole numbers from 0")
    return np.ascontiguousarray(array, dtype=np.int64)


def _checksum(train: Split, test: Split) -> str:
    digest = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        digest.update(f"{array.dtype.name} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
