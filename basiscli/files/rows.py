"""Rows of an array in a file, read in order."""

from collections.abc import Callable

import numpy as np

from basiscli.device import memory

# The part of the free memory that chunks of one array may take while their rows are read.
KEPT_PART = 0.25


def reader(
    read: Callable[[int, int], np.ndarray], rows: int, chunk_rows: int, size: int
) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads the rows start to stop of an array.

    read: reads rows start to stop from the file. rows, size: the array's number of rows and of bytes. chunk_rows: the
    rows of a chunk in the file. HDF5 unpacks a whole chunk even for a few of its rows. So long chunks are read as a
    whole and kept until all their rows are used, unless they take more than KEPT_PART of the free memory.
    """
    kept = 0, 0, np.empty(0)

    def rows_from(start: int, stop: int) -> np.ndarray:
        nonlocal kept
        first, last, block = kept
        if first <= start and stop <= last:
            return block[start - first : stop - first]
        first, last = start // chunk_rows * chunk_rows, min(-(-stop // chunk_rows) * chunk_rows, rows)
        too_large = (last - first) * size > KEPT_PART * memory.available() * rows
        if 4 * (stop - start) >= last - first or too_large:
            return read(start, stop)
        kept = first, last, read(first, last)
        return kept[2][start - first : stop - first]

    return rows_from
