"""Data sets by name or path, and the data set of a network's training."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from basiscli import data
from basiscli.data import KEYS, Dataset
from basiscli.errors import BadInput
from basiscli.files import networks
from basiscli.files.hdf5 import reading


def dataset_of(loaded: networks.Loaded, name: str | None = None) -> Dataset:
    """Return the data set that a network was trained on. `name`: its name or path now, if it has moved.

    Of a network that was imported without a data set, `name` may be any data set whose images and classes fit. Raises
    BadInput if the data set is another one, does not fit, or does not exist any more.
    """
    own = loaded.file.dataset["name"]
    if name is None and not own:
        raise BadInput(f"{loaded.path}: was imported without a data set; name one with `dataset`")
    if name is None and own not in data.names() and not Path(own).is_file():
        raise BadInput(f"{loaded.path}: its data set {own} is gone; say where it is now with `dataset`")
    images = load_dataset(name or own, loaded.file.dataset.get("channels"))
    if not own:
        require_fitting(images, loaded.network.architecture, loaded.path)
    elif images.checksum != loaded.file.dataset.get("checksum"):
        raise BadInput(
            f"{loaded.path}: the data set {images.name} is not the one it was trained on; name that one with `dataset`"
        )
    return images


def require_fitting(images: Dataset, architecture: Mapping, path: str) -> None:
    """Raise BadInput if the images or the classes of a data set are not those of a network."""
    shape, wanted = images.train.images.shape[1:], tuple(architecture["input_shape"])
    if shape != wanted:
        ours, theirs = ("x".join(map(str, sides)) for sides in (wanted, shape))
        raise BadInput(f"{path}: sees images of {ours}, those of {images.name} are {theirs}; name another `dataset`")
    if images.classes > architecture["classes"]:
        raise BadInput(
            f"{path}: tells {architecture['classes']} classes apart, {images.name} has {images.classes}; name another "
            "`dataset`"
        )


@lru_cache(maxsize=2)
def load_dataset(name: str, channels: str | None = None) -> Dataset:
    """Return a data set by name or by the path of an HDF5 or .npz file. channels: of images in a file, first or last.

    Raises BadInput for `channels` of a named data set, whose images are known.
    """
    if channels and name in data.names():
        raise BadInput(f"{name}: `channels` is for files; the images of this data set are known")
    if name not in data.names() and Path(name).suffix in (".h5", ".hdf5"):
        return data.from_arrays(name, dataset_arrays(name), channels)
    return data.load(name, channels)


def dataset_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Return the four arrays of a data set (basiscli.data.KEYS) from an HDF5 file."""
    with reading(path) as file:
        return {key: file.array(key) for key in KEYS}
