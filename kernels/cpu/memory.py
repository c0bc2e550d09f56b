"""Large arrays out of a pool: memory that an array leaves serves the next one of about its size.

A fresh array costs a page fault for every page, and the system gives large ones back as soon as they are free: in a
training step that takes a third of the time of a small convolution (docs/decisions/convolutions.md).
"""

import math
from collections import OrderedDict
from threading import RLock

import numpy as np

from basiscli.kernels.cpu import recording

# Smaller arrays come from numpy: the system keeps their memory itself.
LARGE = 1 << 20
ALIGNMENT = 64


class Pool:
    """Blocks of memory that no array uses, by size, and how much there may be of them."""

    def __init__(self):
        self._free: OrderedDict[int, list[np.ndarray]] = OrderedDict()  # sizes used longest ago first
        self._used = self._peak = self._kept = 0  # bytes
        self._lock = RLock()  # the garbage collector may give a block back while one is taken

    @property
    def kept(self) -> int:
        """Bytes that no array uses."""
        return self._kept

    def take(self, size: int) -> np.ndarray:
        """Return a block of this size, an old one where there is one."""
        with self._lock:
            self._used += size
            self._peak = max(self._peak, self._used)
            if self._free.get(size):
                self._free.move_to_end(size)
                self._kept -= size
                return self._free[size].pop()
            # What is kept may be no more than what was once used: a step of training finds all its blocks again.
            while self._kept and self._used + self._kept > 2 * self._peak:
                oldest = next(iter(self._free))
                self._kept -= oldest * len(self._free.pop(oldest))
        return np.empty(size, np.uint8)

    def give(self, block: np.ndarray) -> None:
        """Take back a block that no array uses any more."""
        with self._lock:
            self._used -= block.size
            self._kept += block.size
            self._free.setdefault(block.size, []).append(block)


class _Lease:
    """What an array of the pool lives in; its memory goes back when the last view of it is gone."""

    def __init__(self, pool: Pool, size: int):
        self._pool, self._block = pool, pool.take(size)
        start = -self._block.ctypes.data % ALIGNMENT
        self.__array_interface__ = self._block[start:].__array_interface__

    def __del__(self):
        self._pool.give(self._block)


_POOL = Pool()


def empty(shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """Return an array whose values are undefined, like np.empty; one at a fixed address while a step is recorded."""
    if current := recording.current():
        return current.empty(shape, dtype)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    # Sizes in steps of a quarter of a power of two, so that arrays of nearly the same size share blocks.
    step = 1 << (size.bit_length() - 3)
    whole = np.asarray(_Lease(_POOL, -(-size // step) * step + ALIGNMENT))
    return whole[:size].view(dtype).reshape(shape)


def constant(values, dtype=np.float32) -> np.ndarray:
    """Return an array that a launch may read, made of values that are known now; it stays as long as a recording."""
    array = np.ascontiguousarray(values, dtype)
    current = recording.current()
    return current.keep(array) if current else array
