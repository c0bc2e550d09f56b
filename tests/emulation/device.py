"""What stands for a card and its driver: memory, streams, graphs; README.md says which of a card's ways they have.

It is stricter than a card: fresh memory holds NaN, bytes around every array must stay as they are, and waiting and
moving data, which are counted, are refused while a graph is captured.
"""

import ctypes
import mmap
import time
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

import numpy as np

from tests.emulation import emulation

MARGIN, ALIGNMENT, GUARD, FRESH = 512, 512, 0xA5, 0xFF
MEMORY = 8 << 30
# Arrays from this size on are made of pages that take memory when they are first written, and hold zeros.
SPARSE, NO_RESERVE = 1 << 30, 0x4000
OUT_OF_MEMORY, ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_IMPLICIT = 2, 700, 900, 901, 906
ERRORS = {
    OUT_OF_MEMORY: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    ILLEGAL_ADDRESS: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    CAPTURE_UNSUPPORTED: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    CAPTURE_INVALIDATED: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    CAPTURE_IMPLICIT: "cudaErrorStreamCaptureImplicit: dependency created on uncaptured work in another stream",
}


class CUDARuntimeError(RuntimeError):
    """cupy's."""

    def __init__(self, status: int):
        self.status = status
        super().__init__(ERRORS.get(status, status))


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


class OutOfMemoryError(MemoryError):
    """cupy's."""

    def __init__(self, size: int, total: int, limit: int = 0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class Device:
    """What a card does: it runs work, or notes it in the graph that is being captured."""

    def __init__(self):
        self.blocks: weakref.WeakSet = weakref.WeakSet()
        self.taken = self.peak = 0  # bytes, and the most that they were
        self.reset()

    def reset(self) -> None:
        """Be a card that nothing was done on yet, but for the memory that is taken."""
        self.memory, self.fresh = MEMORY, FRESH  # bytes; what new memory is filled with
        self.graph: list[Callable] | None = None
        self.captured: list[weakref.ref] = []  # memory that the graph got from its pool
        self.capturing: Stream | None = None
        self.current: list[Stream] = [Stream.null]
        self.invalid = False
        self.fault: int | None = None  # what every call fails with once the card is lost
        self.broken: list[str] = []  # captures that failed
        self.waits = self.uploads = self.launches = self.graph_launches = 0
        self.log: list[str] = []  # names of kernels, in order

    @property
    def stream(self) -> "Stream":
        """The current stream."""
        return self.current[-1]

    def check(self) -> None:
        """Raise what a lost card answers every call with."""
        if self.fault:
            raise CUDARuntimeError(self.fault)

    def enqueue(self, name: str, work: Callable) -> None:
        """Run some work of a name, or note it."""
        self.check()
        if self.graph is None:
            self._run(name, work)
            return
        if self.stream is not self.capturing:
            self.refuse(CAPTURE_IMPLICIT)
        self.graph.append(partial(self._run, name, work))

    def _run(self, name: str, work: Callable) -> None:
        self.launches += 1
        self.log.append(name)
        with np.errstate(all="ignore"):
            work()
        for block in list(self.blocks):
            assert block.intact(), f"{name} wrote beside an array"

    def refuse(self, status: int) -> None:
        """Break the capture and raise an error."""
        self.invalid = True
        raise CUDARuntimeError(status)

    def wait(self) -> None:
        """Note that the host waits for the card."""
        self.check()
        if self.graph is not None:
            self.refuse(CAPTURE_UNSUPPORTED)
        self.waits += 1

    def upload(self) -> None:
        """Note that data is moved to the card."""
        self.check()
        if self.graph is not None:
            self.refuse(CAPTURE_UNSUPPORTED)
        self.uploads += 1


class Memory:
    """Memory that the driver gave, until nobody has it any more."""

    def __init__(self, size: int):
        DEVICE.check()
        if DEVICE.taken + size > DEVICE.memory:
            raise CUDARuntimeError(OUT_OF_MEMORY)
        self.size = size
        DEVICE.taken += size
        DEVICE.peak = max(DEVICE.peak, DEVICE.taken)
        if size < SPARSE:
            raw = np.full(size + ALIGNMENT, GUARD, np.uint8)
        else:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
            raw = np.frombuffer(mmap.mmap(-1, size + ALIGNMENT, flags), np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.bytes = raw[start : start + size]
        self.bytes[:MARGIN] = self.bytes[-MARGIN:] = GUARD

    def __del__(self):
        if hasattr(self, "bytes") and DEVICE is not None:  # as it is when Python ends
            DEVICE.taken -= self.size


class Block:
    """Memory of one array, back in its pool when the last array that lives in it is gone."""

    def __init__(self, pool: "MemoryPool", memory: Memory, size: int):
        self.pool, self.owner, self.memory, self.end = weakref.ref(pool), memory, memory.bytes, MARGIN + size
        self.memory[self.end :] = GUARD
        if memory.size < SPARSE and DEVICE.graph is None:
            self.memory[MARGIN : self.end] = DEVICE.fresh
        DEVICE.blocks.add(self)
        _poison(self.memory, True)
        _poison(self.memory[MARGIN : self.end], False)

    @property
    def ptr(self) -> int:
        """The address."""
        return self.memory.ctypes.data + MARGIN

    def intact(self) -> bool:
        """Return whether the bytes around the array are as they were."""
        return bool((self.memory[:MARGIN] == GUARD).all() and (self.memory[self.end :] == GUARD).all())

    def __del__(self):
        _poison(self.memory, False)
        if (pool := self.pool()) is not None:
            pool.free.setdefault(self.owner.size, []).append(self.owner)


_SANITIZER = [ctypes.CDLL(None)[f"__asan_{un}poison_memory_region"] for un in ("un", "") if emulation.SANITIZED]


def _poison(memory: np.ndarray, poisoned: bool) -> None:
    """Have the address sanitizer, where it is there, report every use of some memory, or let it be used again."""
    if emulation.SANITIZED and memory.size:
        _SANITIZER[poisoned](ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.size))


class MemoryPool:
    """cupy's: memory that arrays leave serves the next of the same size; where none is left the free goes back."""

    def __init__(self):
        self.free: dict[int, list[Memory]] = {}

    def malloc(self, size: int) -> Block:
        """Return a block of a size in bytes."""
        asked, size = size, max(-(-size // ALIGNMENT), 1) * ALIGNMENT + 2 * MARGIN
        memory = self.free[size].pop() if self.free.get(size) else self._from_driver(size)
        if DEVICE.graph is not None:
            DEVICE.captured.append(weakref.ref(memory))
        return Block(self, memory, asked)

    def _from_driver(self, size: int) -> Memory:
        if DEVICE.graph is not None:
            DEVICE.refuse(CAPTURE_UNSUPPORTED)
        for attempt in range(2):
            try:
                return Memory(size)
            except CUDARuntimeError as error:
                if error.status != OUT_OF_MEMORY:
                    raise
                if attempt:
                    break
                self.free_all_blocks()
        raise OutOfMemoryError(size, DEVICE.taken)

    def free_all_blocks(self) -> None:
        """Give what no array uses back to the driver."""
        self.free.clear()

    def free_bytes(self) -> int:
        """Return the bytes that no array uses."""
        return sum(size * len(blocks) for size, blocks in self.free.items())


class Stream:
    """cupy's: everything runs at once, so a stream only matters for capturing."""

    null: "Stream"

    def __init__(self, null=False, non_blocking=False):
        assert not non_blocking, "work of the default stream would not be waited for"
        self.ptr = 0 if null else id(self)

    def __enter__(self):
        DEVICE.current.append(self)
        return self

    def __exit__(self, *exception):
        DEVICE.current.pop()

    def begin_capture(self, mode=None) -> None:
        """Note what comes instead of running it."""
        DEVICE.check()
        if not self.ptr:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        assert DEVICE.graph is None
        DEVICE.graph, DEVICE.captured, DEVICE.capturing, DEVICE.invalid = [], [], self, False

    def end_capture(self) -> "Graph":
        """Return what was noted."""
        assert DEVICE.capturing is self
        work, DEVICE.graph, DEVICE.capturing = DEVICE.graph, None, None
        if DEVICE.invalid:
            DEVICE.broken.append("a capture was broken")
            raise CUDARuntimeError(CAPTURE_INVALIDATED)
        return Graph(work, DEVICE.captured)


class Graph:
    """Work that was captured."""

    def __init__(self, work: list[Callable], memory: list[weakref.ref]):
        self.work, self.memory = work, memory

    def launch(self, stream=None) -> None:
        """Run it."""
        DEVICE.check()
        assert DEVICE.graph is None
        DEVICE.graph_launches += 1
        if any(memory() is None for memory in self.memory):
            DEVICE.fault = ILLEGAL_ADDRESS
            DEVICE.check()
        for one in self.work:
            one()


class Event:
    """cupy's, with the time of the host."""

    def record(self, stream=None) -> None:
        """Note the time."""
        DEVICE.check()
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        """Wait for what came before."""
        DEVICE.wait()


def elapsed_time(start_event: Event, end_event: Event) -> float:
    """Return the milliseconds from one event to another."""
    return 1e3 * (end_event.time - start_event.time)


Stream.null = Stream(null=True)
DEVICE = Device()
default_pool = MemoryPool()
_allocators = [default_pool.malloc]


def allocate(size: int) -> Block:
    """Return memory of a size in bytes, from the current pool."""
    return _allocators[-1](size)


@contextmanager
def using_allocator(allocator: Callable):
    """Have memory from another pool."""
    _allocators.append(allocator)
    try:
        yield
    finally:
        _allocators.pop()
