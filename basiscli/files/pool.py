"""HDF5 files that are read in turns: no more of them are open at the same time than the system allows."""

from functools import partial
from typing import Any

import numpy as np

from basiscli.device import memory
from basiscli.files.hdf5 import Reader, open_reader
from basiscli.files.rows import RowReader


class Pool:
    """Open files by path. The file that was used longest ago is closed where another one would be too many.

    Use a pool from one thread at a time.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = memory.open_files() if most is None else most
        self._readers: dict[str, Reader] = {}
        self._opened: set[str] = set()

    def reader(self, path: str) -> Reader:
        """Return a file, open for reading. Use it before the next call, which may close it."""
        reader = self._readers.pop(path, None)
        if reader is None:
            while len(self._readers) >= self._most:
                self._readers.pop(next(iter(self._readers))).close()
            reader = open_reader(path, known=path in self._opened)
            self._opened.add(path)
        self._readers[path] = reader
        return reader

    def rows_of(self, path: str, dataset: Any) -> RowReader:
        """Return what reads rows of an array in a file, which is opened again if it was closed."""
        chunk_rows = dataset.chunks[0] if dataset.chunks else 1
        count = dataset.shape[0] if dataset.shape else 0
        return RowReader(partial(self._part, path, dataset.name), count, chunk_rows, dataset.nbytes)

    def _part(self, path: str, name: str, start: int, stop: int) -> np.ndarray:
        return self.reader(path).part(name, start, stop)
