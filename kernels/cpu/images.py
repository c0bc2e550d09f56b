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
    index, moves = _whole(index), _whole(moves)
    # A value for each place of a row of pixels, so that a row is one loop.
    mean, inverse = (constant(np.tile(np.asarray(values), images.shape[2])) for values in (mean, inverse))
    _gather(
        images.ctypes.data, images.dtype == np.uint8, images.strides[0], *images.shape[1:], index.ctypes.data,
        moves.ctypes.data, moves.shape[2], mean.ctypes.data, inverse.ctypes.data, hole, out.ctypes.data, *index.shape,
        seeds=len(index),
    )  # fmt: skip
    return out


def rows(table, index):
    """Return table[index]; see the reference."""
    out = empty((*index.shape, *table.shape[1:]))
    index = _whole(index)
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
        images, is_octets, image, height, width, channels, index, moves, kinds, mean, inverse, hole, out, seeds, samples,
    ) = integers(arguments, 15)  # fmt: skip
    across = width * channels
    means, inverses = floats(mean, across), floats(inverse, across)
    first, last = share(worker, workers, seeds * samples)
    for task in range(first, last):
        source = images + image * words(index, seeds * samples)[task]
        target = floats(out + BYTES * height * across * task, height * across)
        move = words(moves + WORD * kinds * task, kinds)
        mirrored = kinds > 2 and move[2] == 1
        # Row by row: `low` to `high` are the pixels that lie in the image after it has moved right.
        low, high = min(max(move[1], 0), width), max(min(width + move[1], width), 0)
        for row in range(height):
            result = target[row * across : (row + 1) * across]
            if not 0 <= row - move[0] < height or low >= high:
                _pad(means, inverses, result, 0, across)
                continue
            line = source + (row - move[0]) * across * (1 if is_octets else BYTES)
            if mirrored:
                if is_octets:
                    _mirrored(octets(line, across), move[1], channels, means, inverses, result)
                else:
                    _mirrored(floats(line, across), move[1], channels, means, inverses, result)
                continue
            begin, end = low * channels, high * channels
            _pad(means, inverses, result, 0, begin)
            if is_octets:
                _standardise(octets(line, across)[begin - move[1] * channels :], means[begin:end], inverses[begin:end], result[begin:end])
            else:
                _standardise(floats(line, across)[begin - move[1] * channels :], means[begin:end], inverses[begin:end], result[begin:end])
            _pad(means, inverses, result, end, across)
        if kinds > 2 and hole > 0:
            _cut(target, move[3] - hole // 2, move[4] - hole // 2, hole, height, width, channels)


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
