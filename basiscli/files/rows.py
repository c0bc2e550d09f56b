"""Rows of an array in a file, read in order."""

from collections.abc import Callable, Iterable

import numpy as np

from basiscli.device import memory

# The part of the free memory that chunks of one array may take while their rows are read.
KEPT_PART = 0.25


class RowReader:
    """Reads rows start to stop of an array, fast when called in order.

    HDF5 unpacks a whole chunk even for a few of its rows. So long chunks are read as a whole and kept until all their
    rows are used, unless they take more than KEPT_PART of the free memory.
    """

    def __init__(
        self, read: Callable[[int, int], np.ndarray], rows: int, chunk_rows: int, size: int, whole: bool = False
    ) -> None:
        """Take the function that reads rows from the file, the array's rows and bytes, and the rows of a chunk.

        whole: always keep a chunk, because the file cannot be read in parts.
        """
        self._read, self._rows, self._chunk_rows, self._whole = read, rows, max(chunk_rows, 1), whole
        self._row_bytes = size / max(rows, 1)
        self._kept = 0, 0, np.empty(0)

    @property
    def held(self) -> int:
        """The bytes of a chunk."""
        return int(min(self._chunk_rows, self._rows) * self._row_bytes)

    def __call__(self, start: int, stop: int) -> np.ndarray:
        first, last, block = self._kept
        if first <= start and stop <= last:
            return block[start - first : stop - first]
        first = start // self._chunk_rows * self._chunk_rows
        last = min(-(-stop // self._chunk_rows) * self._chunk_rows, self._rows)
        too_large = (last - first) * self._row_bytes > KEPT_PART * memory.available()
        if not self._whole and (4 * (stop - start) >= last - first or too_large):
            return self._read(start, stop)
        self._kept = first, last, self._read(first, last)
        return self._kept[2][start - first : stop - first]

    def forget(self) -> None:
        """Give back the chunk that is kept."""
        self._kept = 0, 0, np.empty(0)


def forget(readers: Iterable[RowReader]) -> None:
    """Give back the chunks that readers keep."""
    for reader in readers:
        reader.forget()
