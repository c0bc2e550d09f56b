"""Pooling and what else rearranges positions, for all seeds; a task is one image."""

import numpy as np
from numba import prange

from basiscli.kernels.cpu.compiling import parallel, serial
from basiscli.kernels.cpu.copying import copy_positions
from basiscli.kernels.cpu.memory import empty


def max_pool(x, size):
    """Return the largest value of each window, and where it is; see the reference."""
    seeds, samples, height, width, units = x.shape
    y = empty((seeds, samples, height // size, width // size, units))
    argmax = empty(y.shape, np.uint8)
    _max_pool(_images(x), size, _images(y), _images(argmax))
    return y, argmax


def max_pool_gradient(dy, argmax, shape):
    """dx = dy where x was the largest of its window, else 0; `shape` is that of x."""
    dx = empty(shape)
    _max_pool_gradient(_images(dy), _images(argmax), shape[2] // dy.shape[2], _images(dx))
    return dx


def average_pool(x, size):
    """Return the mean of each window; see the reference."""
    seeds, samples, height, width, units = x.shape
    y = empty((seeds, samples, height // size, width // size, units))
    _average_pool(_images(x), size, size, _images(y))
    return y


def average_pool_gradient(dy, size):
    """dx = dy / size², the same for all positions of a window."""
    seeds, samples, height, width, units = dy.shape
    dx = empty((seeds, samples, height * size, width * size, units))
    _average_pool_gradient(_images(dy), size, size, _images(dx))
    return dx


def global_pool(x):
    """Mean over all positions: (S, N, H, W, C) -> (S, N, C)."""
    y = empty((*x.shape[:2], x.shape[4]))
    _average_pool(_images(x), x.shape[2], x.shape[3], y.reshape(-1, 1, 1, x.shape[4]))
    return y


def global_pool_gradient(dy, size):
    """dx = dy / (H W), the same for all positions; size (H, W)."""
    dx = empty((*dy.shape[:2], *size, dy.shape[2]))
    _average_pool_gradient(dy.reshape(-1, 1, 1, dy.shape[2]), size[0], size[1], _images(dx))
    return dx


def subsample(x, stride, units):
    """Every stride-th row and column, with units of 0 after those of x: (S, N, H, W, I) -> (S, N, H', W', units)."""
    picked = _images(x)[:, ::stride, ::stride]
    y = empty((*x.shape[:2], *picked.shape[1:3], units))
    copy_positions(picked, _images(y), _images(y))
    return y


def subsample_gradient(dy, stride, shape):
    """dx = dy at the positions that were picked, else 0; `shape` is that of x."""
    dx = empty(shape)
    copy_positions(_images(dy), _images(dx)[:, ::stride, ::stride], _images(dx))
    return dx


def _images(x):
    """View (S, N, H, W, C) as (S N, H, W, C)."""
    return x.reshape(-1, *x.shape[2:])


@parallel
def _max_pool(x, size, y, argmax):
    images, height, width = y.shape[:3]
    for task in prange(images):
        n = np.int64(task)
        for i in range(height):
            for j in range(width):
                y[n, i, j] = x[n, i * size, j * size]
                for at in range(1, size * size):
                    _take_larger(x[n, i * size + at // size, j * size + at % size], y[n, i, j])
                for at in range(size * size - 1, -1, -1):
                    seen = x[n, i * size + at // size, j * size + at % size]
                    _note_where(seen, y[n, i, j], np.uint8(at), argmax[n, i, j])


@parallel
def _max_pool_gradient(dy, argmax, size, dx):
    images, height, width = dy.shape[:3]
    for task in prange(images):
        n = np.int64(task)
        for i in range(height):
            for j in range(width):
                for at in range(size * size):
                    target = dx[n, i * size + at // size, j * size + at % size]
                    _where_taken(dy[n, i, j], argmax[n, i, j], np.uint8(at), target)


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


@parallel
def _average_pool(x, rows, columns, y):
    images, height, width = y.shape[:3]
    factor = np.float32(1 / (rows * columns))
    for task in prange(images * height):
        n, i = divmod(np.int64(task), height)
        for j in range(width):
            _add_scaled(x[n, i * rows, j * columns], factor, np.float32(0), y[n, i, j])
            for at in range(1, rows * columns):
                row, column = divmod(at, columns)
                _add_scaled(x[n, i * rows + row, j * columns + column], factor, np.float32(1), y[n, i, j])


@parallel
def _average_pool_gradient(dy, rows, columns, dx):
    images, height, width = dy.shape[:3]
    factor = np.float32(1 / (rows * columns))
    for task in prange(images * height):
        n, i = divmod(np.int64(task), height)
        for j in range(width):
            for at in range(rows * columns):
                row, column = divmod(at, columns)
                _add_scaled(dy[n, i, j], factor, np.float32(0), dx[n, i * rows + row, j * columns + column])


@serial
def _add_scaled(x, factor, kept, y):
    """y = kept y + factor x, `kept` 0 (y is not read) or 1."""
    if kept == 0:
        for c in range(len(y)):
            y[c] = factor * x[c]
    else:
        for c in range(len(y)):
            y[c] += factor * x[c]
