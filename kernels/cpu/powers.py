"""Sums of powers of the columns of a matrix; a task is a tile of columns.

A tile's sums of a run of rows are float32 and stay in registers; float64 adds up the runs. The sums depend on the shape
alone, not on the number of workers.
"""

import numpy as np

from basiscli.kernels.cpu.columns import sum_powers
from basiscli.kernels.cpu.launching import Kernel, integers, scratch, share
from basiscli.kernels.cpu.micro import BYTES, LANES
from basiscli.kernels.cpu.views import doubles, floats

# Five sums of so many columns fit the registers: 32 of 16 floats, or 16 of fewer.
TILE = (4 if LANES == 16 else 2) * LANES
RUN, SUMS = 128, 5


def power_sums(x, offset):
    """Σ x, Σ x², Σ x³, Σ x⁴ and Σ |x + offset| of each unit, (S, 5, C) float64; see the reference."""
    x, offset = np.ascontiguousarray(x), np.ascontiguousarray(offset)
    seeds, units = offset.shape
    sums = np.zeros((seeds, SUMS, units))
    addresses = (array.ctypes.data for array in (x, offset, sums))
    _power_sums(*addresses, seeds, x[0].size // units, units, *scratch(SUMS * TILE * BYTES))
    return sums


@Kernel
def _power_sums(worker, workers, arguments):
    x, offset, sums, seeds, rows, units, memory, stride = integers(arguments, 8)
    row, memory = BYTES * units, memory + worker * stride
    run = floats(memory, SUMS * TILE)
    plane = BYTES * TILE
    first, last = share(worker, workers, -(-units // TILE))
    for seed in range(seeds):
        total = doubles(sums + 2 * BYTES * seed * SUMS * units, SUMS * units)
        for start in range(0, rows, RUN):
            count = min(RUN, rows - start)
            c = first * TILE
            while c < min(last * TILE, units):
                width = TILE if units - c >= TILE else LANES if units - c >= LANES else 1
                at, moved = x + row * (seed * rows + start) + BYTES * c, offset + row * seed + BYTES * c
                sum_powers(
                    width, count, row, at, moved,
                    memory, memory + plane, memory + 2 * plane, memory + 3 * plane, memory + 4 * plane,
                )  # fmt: skip
                for power in range(SUMS):
                    for j in range(width):
                        total[power * units + c + j] += run[power * TILE + j]
                c += width
