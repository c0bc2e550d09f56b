"""Gathering a batch: pick, move, mirror and standardise images and cut holes in one pass; a task is one image."""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel
from basiscli.kernels.cpu.memory import empty


def gather(images, index, moves, mean, inverse, hole=0):
    """Pick images, move, mirror and standardise each, and cut a hole; see the reference."""
    out = empty((*index.shape, *images.shape[1:]))
    # Slices of an epoch are no contiguous arrays, and every layout would be compiled anew.
    _gather(images, np.ascontiguousarray(index), np.ascontiguousarray(moves), mean, inverse, hole, out)
    return out


@parallel
def _gather(images, index, moves, mean, inverse, hole, out):
    seeds, samples = index.shape
    height, width, channels = images.shape[1:]
    for task in prange(seeds * samples):
        s, n = divmod(np.int64(task), samples)
        image = index[s, n]
        down, right = np.int64(moves[s, n, 0]), np.int64(moves[s, n, 1])
        mirrored, top, left, side = False, np.int64(0), np.int64(0), np.int64(0)
        if moves.shape[2] > 2:
            mirrored, side = moves[s, n, 2] == 1, np.int64(hole)
            top, left = np.int64(moves[s, n, 3]) - side // 2, np.int64(moves[s, n, 4]) - side // 2
        for row in range(height):
            source_row = row - down
            for column in range(width):
                source_column = (width - 1 - column if mirrored else column) - right
                inside = 0 <= source_row < height and 0 <= source_column < width
                cut = top <= row < top + side and left <= column < left + side
                for c in range(channels):
                    value = np.float32(images[image, source_row, source_column, c]) if inside else np.float32(0)
                    out[s, n, row, column, c] = np.float32(0) if cut else (value - mean[c]) * inverse[c]
