"""Weights of convolutions rearranged, for all seeds: side by side, turned, and added up again; a task is one seed."""

import numpy as np

from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import BYTES
from basiscli.kernels.cpu.views import floats


def side_by_side(w, fold, stride):
    """Return weights of `fold` positions, (S, KH, KW + (fold - 1) stride, I, fold O): 0 for what one does not see."""
    seeds, height, width, inputs, outputs = w.shape
    wide = empty((seeds, height, width + (fold - 1) * stride, inputs, fold * outputs))
    _side_by_side(w.ctypes.data, w.strides[0], wide.ctypes.data, *w.shape, fold, stride, seeds=seeds)
    return wide


def turned(w):
    """Return weights turned by 180 degrees, inputs and outputs exchanged: (S, KH, KW, O, I)."""
    seeds, height, width, inputs, outputs = w.shape
    result = empty((seeds, height, width, outputs, inputs))
    _turned(w.ctypes.data, w.strides[0], result.ctypes.data, seeds, height * width, inputs, outputs, seeds=seeds)
    return result


def add_folds(wide, fold, stride, dw):
    """dw[k, l, i, o] = Σ_f wide[k, f stride + l, i, f, o], wide as `side_by_side` gives it, dw (S, KH, KW, I, O)."""
    _add_folds(wide.ctypes.data, dw.ctypes.data, dw.strides[0], *dw.shape, fold, stride, seeds=len(dw))


@Kernel
def _side_by_side(worker, workers, arguments):
    w, w_seed, wide, seeds, height, width, inputs, outputs, fold, stride = integers(arguments, 10)
    across = width + (fold - 1) * stride
    size = height * across * inputs * fold * outputs
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        source = floats(w + s * w_seed, height * width * inputs * outputs)
        target = floats(wide + BYTES * s * size, size)
        for place in range(height * across * inputs * fold):
            rest, f = divmod(place, fold)
            rest, i = divmod(rest, inputs)
            row, column = divmod(rest, across)
            column -= f * stride
            for o in range(outputs):
                seen = 0 <= column < width
                begin = ((row * width + column) * inputs + i) * outputs
                target[place * outputs + o] = source[begin + o] if seen else np.float32(0)


@Kernel
def _turned(worker, workers, arguments):
    w, w_seed, result, seeds, taps, inputs, outputs = integers(arguments, 7)
    size = taps * inputs * outputs
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        source, target = floats(w + s * w_seed, size), floats(result + BYTES * s * size, size)
        for tap in range(taps):
            for i in range(inputs):
                for o in range(outputs):
                    target[(tap * outputs + o) * inputs + i] = source[((taps - 1 - tap) * inputs + i) * outputs + o]


@Kernel
def _add_folds(worker, workers, arguments):
    wide, dw, dw_seed, seeds, height, width, inputs, outputs, fold, stride = integers(arguments, 10)
    across = width + (fold - 1) * stride
    size = height * across * inputs * fold * outputs
    first, last = share(worker, workers, seeds)
    for s in range(first, last):
        source = floats(wide + BYTES * s * size, size)
        target = floats(dw + s * dw_seed, height * width * inputs * outputs)
        for place in range(height * width * inputs):
            rest, i = divmod(place, inputs)
            row, column = divmod(rest, width)
            for o in range(outputs):
                total = np.float32(0)
                for f in range(fold):
                    total += source[(((row * across + column + f * stride) * inputs + i) * fold + f) * outputs + o]
                target[place * outputs + o] = total
