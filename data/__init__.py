"""Data sets: `digits` is bundled, other sets are fetched or imported once, or are .npz files (docs/data.md)."""

from pathlib import Path

import numpy as np

from basiscli.data.cache import Placed, fetch, folder, import_folder, locate
from basiscli.data.dataset import Dataset, Split, from_arrays
from basiscli.data.readers import KEYS, read_npz
from basiscli.data.registry import ENTRIES, Entry, lookup
from basiscli.errors import BadInput, suggestion

__all__ = [
    "KEYS",
    "Dataset",
    "Entry",
    "Placed",
    "Split",
    "describe",
    "fetch",
    "folder",
    "from_arrays",
    "import_folder",
    "load",
    "locate",
    "lookup",
    "names",
]


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(ENTRIES)


def describe(name: str) -> dict:
    """Return the record of a named data set. `where` is the folder of its files, None while any file is missing."""
    entry = lookup(name)
    paths = locate(entry)
    return {
        "name": entry.name,
        "train": entry.train,
        "test": entry.test,
        "shape": "x".join(map(str, entry.shape)),
        "classes": entry.classes,
        "where": str(next(iter(paths.values())).parent) if len(paths) == len(entry.files) else None,
        "source": entry.source,
        "licence": entry.licence,
        "citation": entry.citation,
    }


def load(name: str | Path, channels: str | None = None) -> Dataset:
    """Return a data set by its name, or from the path of an .npz file with the four arrays that `from_arrays` takes.

    channels: of a file, as `from_arrays` takes it.

    Raises BadInput for an unknown name, for a data set that was not fetched yet (the message names the command), and
    for files that are damaged or do not hold the expected arrays.
    """
    if str(name) in ENTRIES:
        return _load_entry(lookup(str(name)))
    if Path(name).suffix == ".npz":
        return from_arrays(str(name), read_npz(Path(name)), channels)
    raise BadInput(
        f"{name}: no such data set; there are {', '.join(ENTRIES)}, or give the path of an .npz file"
        f"{suggestion(str(name), ENTRIES)}"
    )


def _load_entry(entry: Entry) -> Dataset:
    paths = locate(entry)
    if missing := [file.name for file in entry.files if file.name not in paths]:
        raise BadInput(
            f"{entry.name}: {', '.join(missing)} not in {folder() / entry.name}; "
            f"run `basiscli data fetch {entry.name}`, or `basiscli data import {entry.name} FOLDER`"
        )
    parts: dict[str, list[np.ndarray]] = {key: [] for key in KEYS}
    for file in entry.files:
        for key, array in file.read(paths[file.name]).items():
            parts[key].append(array)
    arrays = {key: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for key, arrays in parts.items()}
    return from_arrays(entry.name, arrays)
