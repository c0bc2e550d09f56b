"""Rows of an array in a file, read on and on."""

from collections.abc import Callable

import numpy as np

from basiscli.device import memory

# Part of the free memory that the long chunks of one array may take while their rows are read.
KEPT_PART = 0.25


def reader(
    read: Callable[[int, int], np.ndarray], rows: int, chunk_rows: int, size: int
) -> Callable[[int, int], np.ndarray]:
    """Return what gives rows start to stop of an array of `size` bytes that `read` gives, in chunks of `chunk_rows`.

    A chunk is unpacked whole, however few of its rows are wanted. So where chunks are long, whole chunks are read and
    kept until their rows are used up, unless they take more than KEPT_PART of the free memory.
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
