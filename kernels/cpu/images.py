"""Gathering a batch: pick, move, mirror and standardise images and cut holes in one pass; a task is one image."""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import floats, octets, words

WORD = 8  # bytes of an int64


def gather(images, index, moves, mean, inverse, hole=0):
    """Pick images, move, mirror and standardise each, and cut a hole; see the reference."""
    out = empty((*index.shape, *images.shape[1:]))
    images, index, moves = constant(images, images.dtype), _whole(index), _whole(moves)
    # A value for each place of an image, so that an image that does not move is one loop, and others one a row.
    places = images.shape[1] * images.shape[2]
    mean, inverse = (constant(np.tile(np.asarray(values), places)) for values in (mean, inverse))
    _gather(
        images.ctypes.data, images.dtype == np.uint8, images.strides[0], *images.shape[1:], index.ctypes.data,
        moves.ctypes.data, moves.shape[2], mean.ctypes.data, inverse.ctypes.data, hole, out.ctypes.data, *index.shape,
        seeds=len(index),
    )  # fmt: skip
    return out


def rows(table, index):
    """Return table[index]; see the reference."""
    out = empty((*index.shape, *table.shape[1:]))
    table, index = constant(table), _whole(index)
    size = out[0, 0].size
    _rows(table.ctypes.data, index.ctypes.data, out.ctypes.data, size, *index.shape, seeds=len(index))
    return out


def _whole(array):
    """Return an array of integers as the kernels read it; slices of an epoch are copied."""
    whole = array.dtype == np.int64 and array.flags.c_contiguous
    return array if whole else np.ascontiguousarray(array, np.int64)


@Kernel
def _rows(worker, workers, arguments):
    table, index, out, size, seeds, samples = integers(arguments, 6)
    first, last = share(worker, workers, seeds * samples)
    for task in range(first, last):
        source = floats(table + BYTES * size * words(index, seeds * samples)[task], size)
        _copy(source, floats(out + BYTES * size * task, size))


@serial
def _copy(source, target):
    for i in range(len(target)):
        target[i] = source[i]


@Kernel
def _gather(worker, workers, arguments):
    (
        images, is_octets, image, height, width, channels, index, moves, kinds, mean, inverse, hole, out,
        seeds, samples,
    ) = integers(arguments, 15)  # fmt: skip
    size = height * width * channels
    means, inverses = floats(mean, size), floats(inverse, size)
    first, last = share(worker, workers, seeds * samples)
    for task in range(first, last):
        source = images + image * words(index, seeds * samples)[task]
        result = floats(out + BYTES * size * task, size)
        move = words(moves + WORD * kinds * task, kinds)
        mirrored = kinds > 2 and move[2] == 1
        if is_octets:
            _show(octets(source, size), height, width, channels, move[0], move[1], mirrored, means, inverses, result)
        else:
            _show(floats(source, size), height, width, channels, move[0], move[1], mirrored, means, inverses, result)
        if kinds > 2 and hole > 0:
            _cut(result, move[3] - hole // 2, move[4] - hole // 2, hole, height, width, channels)


@serial
def _show(source, height, width, channels, down, right, mirrored, mean, inverse, result):
    """Standardise an image that is moved and mirrored."""
    if down == 0 and right == 0 and not mirrored:
        _standardise(source, mean, inverse, result)
        return
    across = width * channels
    # `low` to `high` are the places of a row that lie in the image after it has moved right.
    low, high = min(max(right, 0), width) * channels, max(min(width + right, width), 0) * channels
    for row in range(height):
        target = result[row * across : (row + 1) * across]
        if not 0 <= row - down < height or low >= high:
            _pad(mean, inverse, target, 0, across)
            continue
        line = source[(row - down) * across : (row - down + 1) * across]
        if mirrored:
            _mirrored(line, right, channels, mean, inverse, target)
        else:
            _pad(mean, inverse, target, 0, low)
            _standardise(line[low - right * channels :], mean[low:], inverse[low:], target[low:high])
            _pad(mean, inverse, target, high, across)


@serial
def _standardise(source, mean, inverse, result):
    for i in range(len(result)):
        result[i] = (np.float32(source[i]) - mean[i]) * inverse[i]


@serial
def _pad(mean, inverse, result, begin, end):
    for i in range(begin, end):
        result[i] = (np.float32(0) - mean[i]) * inverse[i]


@serial
def _mirrored(source, right, channels, mean, inverse, result):
    width = len(result) // channels
    for column in range(width):
        place = width - 1 - column - right
        for c in range(channels):
            value = np.float32(source[place * channels + c]) if 0 <= place < width else np.float32(0)
            i = column * channels + c
            result[i] = (value - mean[i]) * inverse[i]


@serial
def _cut(target, top, left, side, height, width, channels):
    for row in range(max(top, 0), min(top + side, height)):
        for column in range(max(left, 0), min(left + side, width)):
            for c in range(channels):
                target[(row * width + column) * channels + c] = 0
