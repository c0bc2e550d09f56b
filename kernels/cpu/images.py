"""Gathering a batch: pick, move and standardise images in one pass; a task is one image."""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel


def gather(images, index, shifts, mean, inverse):
    """Pick images, move each by whole pixels, standardise; see the reference."""
    out = np.empty((*index.shape, *images.shape[1:]), np.float32)
    # Slices of an epoch are no contiguous arrays, and every layout would be compiled anew.
    _gather(images, np.ascontiguousarray(index), np.ascontiguousarray(shifts), mean, inverse, out)
    return out


@parallel
def _gather(images, index, shifts, mean, inverse, out):
    seeds, samples = index.shape
    height, width, channels = images.shape[1:]
    for task in prange(seeds * samples):
        s, n = divmod(np.int64(task), samples)
        image = index[s, n]
        down, right = np.int64(shifts[s, n, 0]), np.int64(shifts[s, n, 1])
        for row in range(height):
            source_row = row - down
            for column in range(width):
                source_column = column - right
                inside = 0 <= source_row < height and 0 <= source_column < width
                for c in range(channels):
                    value = np.float32(images[image, source_row, source_column, c]) if inside else np.float32(0)
                    out[s, n, row, column, c] = (value - mean[c]) * inverse[c]
