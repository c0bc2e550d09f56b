"""Launching kernels: one parallel driver for all, because numba takes more than a second to compile each of its own.

A kernel is a function run(worker, workers, arguments) compiled to machine code once; `arguments` is the address of its
integers: addresses, strides and counts. Each worker takes its own share of the tasks, so that what it writes, and the
order of every sum, does not depend on how many there are. While a step is recorded, launches are noted instead
(recording.py).
"""

import threading
from collections.abc import Callable
from functools import cached_property

import numpy as np
from llvmlite import ir
from numba import cfunc, get_num_threads, prange, types
from numba.extending import intrinsic

from basiscli.kernels.cpu import recording
from basiscli.kernels.cpu.compiling import parallel, serial

_SIGNATURE = types.void(types.int64, types.int64, types.int64)
_INT = ir.IntType(64)
PAGE = 4096
_own = threading.local()


class Kernel:
    """A function of (worker, workers, arguments), compiled when it is first called, by all threads at once."""

    def __init__(self, function: Callable):
        self._function = function
        self.__doc__ = function.__doc__

    @cached_property
    def _address(self) -> int:
        self._compiled = cfunc(_SIGNATURE, cache=True)(self._function)
        return self._compiled.address

    def __call__(self, *arguments: int, seeds: int = 0) -> None:
        """Run with these integers, one worker a thread.

        seeds: given if the tasks are in the order of so many seeds, each with as many as any other.
        """
        if current := recording.current():
            current.note(self._address, arguments, seeds)
            return
        table = np.array(arguments, np.int64)
        _launch(self._address, get_num_threads(), table.ctypes.data)


def scratch(size: int) -> tuple[int, int]:
    """Return (address, stride in bytes) of `size` bytes for each worker, left over from earlier launches.

    Every Python thread has its own. What lies there is undefined.
    """
    stride = -(-size // PAGE) * PAGE + 3 * PAGE // 2  # workers do not share pages, nor the same sets of the cache
    if current := recording.current():
        return current.scratch(stride), stride
    wanted = stride * get_num_threads() + PAGE
    if getattr(_own, "size", 0) < wanted:
        _own.memory, _own.size = np.empty(wanted, np.uint8), wanted
    return -(-_own.memory.ctypes.data // PAGE) * PAGE, stride


def parts_of_a_seed(seeds: int) -> int:
    """Return how many tasks the work of each of so many seeds should be cut into."""
    current = recording.current()
    if current and current.alone:
        return 1
    # Seeds rarely divide among the threads: smaller tasks then.
    return get_num_threads() if seeds == 1 else -(-get_num_threads() * 2 // seeds)


@parallel
def _launch(function, workers, arguments):
    for worker in prange(workers):
        call_kernel(function, np.int64(worker), workers, arguments)


@serial
def share(worker, workers, tasks):
    """Return (first, last + 1) of the tasks of a worker."""
    return worker * tasks // workers, (worker + 1) * tasks // workers


@intrinsic
def call_kernel(typing_context, function, worker, workers, arguments):
    """Call the kernel at an address."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [_INT] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic(prefer_literal=True)
def integers(typing_context, address, count):
    """Return the tuple of `count` int64 at an address."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    number = count.literal_value

    def generate(context, builder, signature, arguments):
        base = builder.inttoptr(arguments[0], _INT.as_pointer())
        values = [builder.load(builder.gep(base, [ir.Constant(_INT, k)], source_etype=_INT)) for k in range(number)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(types.int64, number)(types.int64, count), generate
