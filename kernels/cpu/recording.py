"""Recording a step: kernels are noted instead of run, with memory that stays where it is.

While a recording is active in a thread, `memory.empty` takes arrays out of its blocks and a `Kernel` notes its
integers. No value exists yet, so nothing may depend on one: numpy refuses arrays of a recording, and an address that
the recording does not own is refused too. Both raise Unrecordable, and the step is then run as it stands.
"""

import bisect
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

ALIGNMENT = 64
# A recording grows by at least this much.
BLOCK = 1 << 22
# Integers of a launch beyond this are addresses; counts, strides and the bits of a float32 are not.
ADDRESSES = 1 << 32
_active = threading.local()


class Unrecordable(Exception):
    """A step does something that its recording could not repeat."""


class Traced(np.ndarray):
    """An array of a recording: a place in memory whose values come when the recording is replayed."""

    def __array_ufunc__(self, *arguments, **options):
        raise Unrecordable(f"numpy computes {arguments[0].__name__} while a step is recorded; a kernel should")

    def __array_function__(self, function, *arguments):
        raise Unrecordable(f"numpy.{function.__name__} is called while a step is recorded; a kernel should do its work")

    def __setitem__(self, key, value):
        raise Unrecordable("numpy writes into an array while a step is recorded; a kernel should")

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if not isinstance(found, Traced) or not np.may_share_memory(found.view(np.ndarray), self.view(np.ndarray)):
            raise Unrecordable("a value is asked for while a step is recorded")
        return found

    def __bool__(self):
        raise Unrecordable("a value is asked for while a step is recorded")


@dataclass(frozen=True)
class Launch:
    """A kernel with its integers. With `seeds`, worker s of that many does exactly the work of seed s."""

    address: int
    table: np.ndarray
    seeds: int


class _Lease:
    """What an array of a recording lives in; its memory goes back when the last view of it is gone."""

    def __init__(self, owner: "Recording", address: int, size: int):
        self._owner, self._place = owner, (address, size)
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def __del__(self):
        self._owner.give(*self._place)


class Recording:
    """The launches of a step, and the memory they work in.

    alone: how many seeds are to be replayed independently of each other, 0 for none. Then the work of a seed is one
    task of each launch, and no two arrays share memory; else an array takes the lowest gap that earlier ones have left.
    blocks: memory of other recordings that are never replayed at the same time; it is used first, and extended.
    """

    def __init__(self, blocks: list[np.ndarray], workers: int, alone: int = 0):
        self.launches: list[Launch] = []
        self.workers, self.alone = workers, alone
        self._blocks = blocks
        self._gaps = [_aligned(block) for block in blocks]  # (start, end), in order of addresses
        self._gaps.sort()
        self._ranges: list[tuple[int, int]] = []  # of memory that may stand in a launch
        self._kept: list[np.ndarray] = []
        self._scratch: dict[int, tuple[int, int]] = {}  # address, bytes for each worker
        self._open = True
        for block in blocks:
            self._own(block)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record what this thread launches."""
        _active.recording = self
        try:
            yield
        finally:
            _active.recording, self._open = None, False

    def empty(self, shape: tuple[int, ...], dtype=np.float32) -> Traced:
        """Return an array at a fixed address."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        lease = _Lease(self, self._take(size), size)
        return np.asarray(lease).view(dtype).reshape(shape).view(Traced)

    def keep(self, array: np.ndarray) -> np.ndarray:
        """Hold an array as long as the recording, so that launches may name its address; return it as traced."""
        self._kept.append(array)
        self._own(array)
        return array.view(Traced)

    def scratch(self, size: int) -> int:
        """Return the address of `size` bytes for each worker; launches share them.

        Seeds that do not wait for each other are in different launches at a time: only launches of one size may share
        then, since a worker's part begins at a multiple of the size.
        """
        key = size if self.alone else 0
        address, there = self._scratch.get(key, (0, 0))
        if there < size:
            address = self._take(size * max(self.workers, self.alone))
            self._scratch[key] = address, size
        return address

    def note(self, address: int, arguments: tuple[int, ...], seeds: int) -> None:
        """Note a launch. Raises Unrecordable if it names memory that may be gone when it is replayed."""
        table = np.array(arguments, np.int64)
        for number in table[table > ADDRESSES]:
            place = bisect.bisect_right(self._ranges, (number, np.inf)) - 1
            if place < 0 or number >= self._ranges[place][1]:
                raise Unrecordable("a kernel works on an array that numpy has made while a step is recorded")
        self.launches.append(Launch(address, table, seeds))

    def give(self, address: int, size: int) -> None:
        """Take back the memory of an array."""
        if self.alone or not self._open:
            return
        start, end = address, address + _rounded(size)
        place = bisect.bisect(self._gaps, (start, end))
        if place < len(self._gaps) and self._gaps[place][0] == end:
            end = self._gaps.pop(place)[1]
        if place and self._gaps[place - 1][1] == start:
            place -= 1
            start = self._gaps.pop(place)[0]
        self._gaps.insert(place, (start, end))

    def _take(self, size: int) -> int:
        size = _rounded(size)
        for place, (start, end) in enumerate(self._gaps):
            if end - start >= size:
                self._gaps[place : place + 1] = [(start + size, end)] if end - start > size else []
                return start
        block = np.empty(max(size, BLOCK) + ALIGNMENT, np.uint8)
        self._blocks.append(block)
        self._own(block)
        bisect.insort(self._gaps, _aligned(block))
        return self._take(size)

    def _own(self, array: np.ndarray) -> None:
        extent = sum((n - 1) * abs(stride) for n, stride in zip(array.shape, array.strides, strict=True))
        bisect.insort(self._ranges, (array.ctypes.data, array.ctypes.data + extent + array.itemsize))


def current() -> Recording | None:
    """Return the recording of this thread, None if there is none."""
    return getattr(_active, "recording", None)


def _rounded(size: int) -> int:
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT


def _aligned(block: np.ndarray) -> tuple[int, int]:
    start = -(-block.ctypes.data // ALIGNMENT) * ALIGNMENT
    return start, block.ctypes.data + block.size
