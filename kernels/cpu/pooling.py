"""Pooling and what else rearranges positions, for all seeds; a task is one image."""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.copying import copy_positions
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import floats, octets


def max_pool(x, size):
    """Return the largest value of each window, and where it is; see the reference."""
    seeds, samples, height, width, units = x.shape
    y = empty((seeds, samples, height // size, width // size, units))
    argmax = empty(y.shape, np.uint8)
    _max_pool(x.ctypes.data, size, y.ctypes.data, argmax.ctypes.data, seeds, *y.shape[1:], seeds=seeds)
    return y, argmax


def max_pool_gradient(dy, argmax, shape):
    """dx = dy where x was the largest of its window, else 0; `shape` is that of x."""
    dx = empty(shape)
    addresses = (array.ctypes.data for array in (dy, argmax, dx))
    _max_pool_gradient(*addresses, shape[2] // dy.shape[2], *dy.shape, seeds=len(dy))
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
    x, size, y, argmax, seeds, samples, height, width, units = integers(arguments, 9)
    first, last = share(worker, workers, seeds * samples)
    for n in range(first, last):
        for place in range(height * width):
            i, j = divmod(place, width)
            at_y = (n * height * width + place) * units
            best, where = floats(y + BYTES * at_y, units), octets(argmax + at_y, units)
            corner = ((n * height + i) * size * width + j) * size
            for at in range(size * size):
                row, column = divmod(at, size)
                seen = floats(x + BYTES * units * (corner + row * width * size + column), units)
                if at == 0:
                    best[:] = seen
                else:
                    _take_larger(seen, best)
            for at in range(size * size - 1, -1, -1):
                row, column = divmod(at, size)
                seen = floats(x + BYTES * units * (corner + row * width * size + column), units)
                _note_where(seen, best, np.uint8(at), where)


@Kernel
def _max_pool_gradient(worker, workers, arguments):
    dy, argmax, dx, size, seeds, samples, height, width, units = integers(arguments, 9)
    first, last = share(worker, workers, seeds * samples)
    for n in range(first, last):
        for place in range(height * width):
            i, j = divmod(place, width)
            at_y = (n * height * width + place) * units
            gradient, where = floats(dy + BYTES * at_y, units), octets(argmax + at_y, units)
            corner = ((n * height + i) * size * width + j) * size
            for at in range(size * size):
                row, column = divmod(at, size)
                target = floats(dx + BYTES * units * (corner + row * width * size + column), units)
                _where_taken(gradient, where, np.uint8(at), target)


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
