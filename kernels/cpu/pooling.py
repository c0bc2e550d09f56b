"""Pooling and what else rearranges positions, for all seeds; a task is one image."""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.copying import copy_positions
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import floats, octets


def max_pool(x, size, stride, padding):
    """Return the largest value of each window, and where it is; see the reference."""
    seeds, samples, *sides, units = x.shape
    y = empty((seeds, samples, *((side + 2 * padding - size) // stride + 1 for side in sides), units))
    argmax = empty(y.shape, np.uint8)
    addresses = (array.ctypes.data for array in (x, y, argmax))
    _max_pool(*addresses, size, stride, padding, seeds * samples, *sides, *y.shape[2:], seeds=seeds)
    return y, argmax


def max_pool_gradient(dy, argmax, shape, size, stride, padding):
    """dx = the sum of dy over the windows in which x was the largest; `shape` is that of x."""
    dx = empty(shape)
    addresses = (array.ctypes.data for array in (dy, argmax, dx))
    seeds, samples, *sides, _ = shape
    # Where each position lies in one window, it is written once and needs no zero before.
    apart = stride == size and not padding and all(side % size == 0 for side in sides)
    _max_pool_gradient(
        *addresses, size, stride, padding, seeds * samples, *sides, *dy.shape[2:], apart, seeds=seeds
    )  # fmt: skip
    return dx


def average_pool(x, size):
    """Return the mean of each window; see the reference."""
    seeds, samples, height, width, units = x.shape
    y = empty((seeds, samples, height // size, width // size, units))
    _average_pool(x.ctypes.data, y.ctypes.data, size, size, *y.shape, seeds=seeds)
    return y


def average_pool_gradient(dy, size):
    """dx = dy / size², the same for all positions of a window."""
    seeds, samples, height, width, units = dy.shape
    dx = empty((seeds, samples, height * size, width * size, units))
    _average_pool_gradient(dy.ctypes.data, dx.ctypes.data, size, size, *dy.shape, seeds=seeds)
    return dx


def global_pool(x):
    """Mean over all positions: (S, N, H, W, C) -> (S, N, C)."""
    y = empty((*x.shape[:2], x.shape[4]))
    seeds, samples, rows, columns, units = x.shape
    _average_pool(x.ctypes.data, y.ctypes.data, rows, columns, seeds, samples, 1, 1, units, seeds=seeds)
    return y


def global_pool_gradient(dy, size):
    """dx = dy / (H W), the same for all positions; size (H, W)."""
    dx = empty((*dy.shape[:2], *size, dy.shape[2]))
    dy = np.ascontiguousarray(dy)
    seeds, samples, units = dy.shape
    _average_pool_gradient(dy.ctypes.data, dx.ctypes.data, *size, seeds, samples, 1, 1, units, seeds=seeds)
    return dx


def subsample(x, stride, units):
    """Every stride-th row and column, with units of 0 after those of x: (S, N, H, W, I) -> (S, N, H', W', units)."""
    picked = _images(x)[:, ::stride, ::stride]
    y = empty((*x.shape[:2], *picked.shape[1:3], units))
    copy_positions(picked, _images(y), _images(y), len(x))
    return y


def subsample_gradient(dy, stride, shape):
    """dx = dy at the positions that were picked, else 0; `shape` is that of x."""
    dx = empty(shape)
    copy_positions(_images(dy), _images(dx)[:, ::stride, ::stride], _images(dx), len(dy))
    return dx


def _images(x):
    """View (S, N, H, W, C) as (S N, H, W, C)."""
    return x.reshape(-1, *x.shape[2:])


@Kernel
def _max_pool(worker, workers, arguments):
    (
        x, y, argmax, size, stride, padding, images, height, width, rows, columns, units,
    ) = integers(arguments, 12)  # fmt: skip
    first, last = share(worker, workers, images)
    for n in range(first, last):
        for place in range(rows * columns):
            i, j = divmod(place, columns)
            at_y = (n * rows * columns + place) * units
            best, where = floats(y + BYTES * at_y, units), octets(argmax + at_y, units)
            top, begin, end = _inside(i, size, stride, padding, height)
            left, begin_column, end_column = _inside(j, size, stride, padding, width)
            corner = (n * height + top) * width + left
            for row in range(begin, end):
                for column in range(begin_column, end_column):
                    seen = floats(x + BYTES * units * (corner + row * width + column), units)
                    if row == begin and column == begin_column:
                        best[:] = seen
                    else:
                        _take_larger(seen, best)
            for row in range(end - 1, begin - 1, -1):
                for column in range(end_column - 1, begin_column - 1, -1):
                    seen = floats(x + BYTES * units * (corner + row * width + column), units)
                    _note_where(seen, best, np.uint8(row * size + column), where)


@Kernel
def _max_pool_gradient(worker, workers, arguments):
    (
        dy, argmax, dx, size, stride, padding, images, height, width, rows, columns, units, apart,
    ) = integers(arguments, 13)  # fmt: skip
    first, last = share(worker, workers, images)
    for n in range(first, last):
        if not apart:
            floats(dx + BYTES * n * height * width * units, height * width * units)[:] = 0
        for place in range(rows * columns):
            i, j = divmod(place, columns)
            at_y = (n * rows * columns + place) * units
            gradient, where = floats(dy + BYTES * at_y, units), octets(argmax + at_y, units)
            top, begin, end = _inside(i, size, stride, padding, height)
            left, begin_column, end_column = _inside(j, size, stride, padding, width)
            corner = (n * height + top) * width + left
            for row in range(begin, end):
                for column in range(begin_column, end_column):
                    target = floats(dx + BYTES * units * (corner + row * width + column), units)
                    if apart:
                        _where_taken(gradient, where, np.uint8(row * size + column), target)
                    else:
                        _add_where_taken(gradient, where, np.uint8(row * size + column), target)


@serial
def _inside(place, size, stride, padding, side):
    """Return where a window begins on one side of the image, and the first and last + 1 of its places inside."""
    start = place * stride - padding
    return start, max(0, -start), min(size, side - start)


# Loops without branches, which would be mispredicted half the time, as functions: of such LLVM makes vectors.


@serial
def _take_larger(x, y):
    for c in range(len(y)):
        # NaN counts as the largest: a diverged seed must be seen.
        value, best = x[c], y[c]
        larger = (value > best) | ((value != value) & (best == best))
        y[c] = value if larger else best


@serial
def _note_where(x, largest, at, argmax):
    for c in range(len(argmax)):
        value, noted = x[c], argmax[c]
        here = (value == largest[c]) | (value != value)
        argmax[c] = at if here else noted


@serial
def _where_taken(dy, argmax, at, dx):
    for c in range(len(dx)):
        value = dy[c]
        dx[c] = value if argmax[c] == at else np.float32(0)


@serial
def _add_where_taken(dy, argmax, at, dx):
    for c in range(len(dx)):
        value = dy[c]
        dx[c] += value if argmax[c] == at else np.float32(0)


@Kernel
def _average_pool(worker, workers, arguments):
    x, y, rows, columns, seeds, samples, height, width, units = integers(arguments, 9)
    factor = np.float32(1 / (rows * columns))
    first, last = share(worker, workers, seeds * samples)
    for n in range(first, last):
        for place in range(height * width):
            i, j = divmod(place, width)
            mean = floats(y + BYTES * units * (n * height * width + place), units)
            corner = ((n * height + i) * rows * width + j) * columns
            for at in range(rows * columns):
                row, column = divmod(at, columns)
                seen = floats(x + BYTES * units * (corner + row * width * columns + column), units)
                _add_scaled(seen, factor, np.float32(at > 0), mean)


@Kernel
def _average_pool_gradient(worker, workers, arguments):
    dy, dx, rows, columns, seeds, samples, height, width, units = integers(arguments, 9)
    factor = np.float32(1 / (rows * columns))
    first, last = share(worker, workers, seeds * samples)
    for n in range(first, last):
        for place in range(height * width):
            i, j = divmod(place, width)
            gradient = floats(dy + BYTES * units * (n * height * width + place), units)
            corner = ((n * height + i) * rows * width + j) * columns
            for at in range(rows * columns):
                row, column = divmod(at, columns)
                target = floats(dx + BYTES * units * (corner + row * width * columns + column), units)
                _add_scaled(gradient, factor, np.float32(0), target)


@serial
def _add_scaled(x, factor, kept, y):
    """y = kept y + factor x, `kept` 0 (y is not read) or 1."""
    if kept == 0:
        for c in range(len(y)):
            y[c] = factor * x[c]
    else:
        for c in range(len(y)):
            y[c] += factor * x[c]
