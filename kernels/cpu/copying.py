"""Copying images into a part of larger ones; a task is one image."""

import numpy as np

from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.micro import BYTES, LANES, clear_vector, copy_vector, load, store


def copy_positions(x, y, whole, seeds):
    """Fill `whole` (N, ...) with 0, and y (N, H, W, C), a view of it, with as many units of x as both have.

    `seeds` have as many of the images each. x is (N, H, W, I); x and y may have any strides but over their units.
    """
    units = min(x.shape[3], y.shape[3])
    _copy(x.ctypes.data, *x.strides[:3], y.ctypes.data, *y.strides[:3], whole.ctypes.data, *y.shape[:3], units,
          whole[0].size, seeds=seeds)  # fmt: skip


@Kernel
def _copy(worker, workers, arguments):
    (
        x, x_image, x_row, x_column, y, y_image, y_row, y_column, zeros, images, rows, columns, units, size,
    ) = integers(arguments, 14)  # fmt: skip
    whole, cleared = units // LANES * LANES, size // LANES * LANES
    first, last = share(worker, workers, images)
    for n in range(first, last):
        for k in range(0, cleared, LANES):
            clear_vector(zeros + n * y_image + BYTES * k)
        for k in range(cleared, size):
            store(np.float32(0), zeros + n * y_image + BYTES * k)
        for i in range(rows):
            for j in range(columns):
                source, target = (
                    x + n * x_image + i * x_row + j * x_column,
                    y + n * y_image + i * y_row + j * y_column,
                )
                for c in range(0, whole, LANES):
                    copy_vector(source + BYTES * c, target + BYTES * c)
                for c in range(whole, units):
                    store(load(source + BYTES * c), target + BYTES * c)
