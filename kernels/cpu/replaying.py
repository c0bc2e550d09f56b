"""Replaying a recorded step: native code walks the launches, for many steps in a call, by one of two schedules.

Alone: a worker walks the whole list for one seed after another, and waits for nobody. Together: all workers run each
launch, and meet at a barrier before the next.
"""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from llvmlite import ir
from numba import get_num_threads, types
from numba.core import cgutils
from numba.extending import intrinsic

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, call_kernel, integers, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.recording import Launch, Recording, Unrecordable
from basiscli.kernels.cpu.views import words

WORD = 8  # bytes of an int64
# Looks at a barrier before the processor is offered to others: some microseconds.
LOOKS = 4000
_INT = ir.IntType(64)
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


class Replayed:
    """A function of named arrays and of inputs, recorded once for each set of the inputs' shapes.

    alone: how many seeds may be worked on without waiting for each other, 0 for none.
    blocks: memory of other recordings that never run at the same time.
    """

    def __init__(
        self, function: Callable[..., None], arrays: Mapping[str, np.ndarray], alone: int, blocks: list[np.ndarray]
    ):
        self._function, self._arrays, self._alone, self._blocks = function, arrays, alone, blocks
        self._recorded: dict[tuple, _Recorded | None] = {}

    def run(self, inputs: Sequence[np.ndarray]) -> bool:
        """Do the steps of inputs (rows, steps, ...) of 8 bytes an item; False if they cannot be recorded."""
        workers = get_num_threads()
        shapes = tuple((values.shape[0], *values.shape[2:], values.dtype.str) for values in inputs), workers
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(inputs, workers)
        recorded = self._recorded[shapes]
        if recorded is not None:
            recorded.run(inputs)
        return recorded is not None

    def _record(self, inputs: Sequence[np.ndarray], workers: int) -> "_Recorded | None":
        alone = self._alone if self._alone >= workers else 0
        current = Recording(self._blocks, workers, alone)
        try:
            with current.active():
                feeds = [Feed(numbers, inputs) for numbers in _by_rows(inputs)]
                fixed = {number: array for feed in feeds for number, array in feed.arrays.items()}
                arrays = {name: current.keep(array) for name, array in self._arrays.items()}
                self._function(arrays, *(fixed[number] for number in range(len(inputs))))
        except Unrecordable:
            return None
        apart = bool(alone) and all(launch.seeds == alone for launch in current.launches)
        return _Recorded(current, feeds, alone if apart else 0)


@dataclass(frozen=True)
class _Recorded:
    recording: Recording
    feeds: Sequence["Feed"]
    alone: int

    def run(self, inputs: Sequence[np.ndarray]) -> None:
        for feed in self.feeds:
            feed.aim(inputs)
        replay(self.recording.launches, inputs[0].shape[1], self.recording.workers, self.alone)


class Feed:
    """Fixed arrays that hold the inputs of the present step: a recorded launch copies them out of longer ones.

    numbers: which of the inputs (rows, steps, ...) it is for; these have as many rows as each other.
    """

    def __init__(self, numbers: Sequence[int], inputs: Sequence[np.ndarray]):
        rows = len(inputs[numbers[0]])
        self.arrays = {k: empty((rows, *inputs[k].shape[2:]), inputs[k].dtype) for k in numbers}
        # Written between replays, so as they are and not as arrays of the recording.
        self._steps = constant(np.zeros(rows), np.int64).view(np.ndarray)
        self._sources = constant(np.zeros((len(numbers), 3)), np.int64).view(np.ndarray)
        targets = [(array.ctypes.data, array.nbytes // rows // WORD) for array in self.arrays.values()]
        addresses = (array.ctypes.data for array in (self._steps, self._sources, constant(targets, np.int64)))
        _feed(*addresses, len(numbers), rows, seeds=rows)

    def aim(self, inputs: Sequence[np.ndarray]) -> None:
        """Have the next steps take these inputs, from the first step on; they must stay until then."""
        self._steps[...] = 0
        for place, number in enumerate(self.arrays):
            self._sources[place] = inputs[number].ctypes.data, *inputs[number].strides[:2]


def _by_rows(inputs: Sequence[np.ndarray]) -> list[list[int]]:
    """Return the numbers of the inputs, those with as many rows together."""
    found: dict[int, list[int]] = {}
    for number, values in enumerate(inputs):
        found.setdefault(len(values), []).append(number)
    return list(found.values())


def replay(launches: Sequence[Launch], steps: int, workers: int, alone: int) -> None:
    """Run the launches `steps` times by so many workers; `alone` is the number of seeds, 0 to run them together."""
    table = np.array([[launch.address, launch.table.ctypes.data] for launch in launches], np.int64)
    if alone:
        workers = min(workers, alone)
        done = np.zeros(alone, np.int64)
        parts = [(_run_alone, (table, alone, part, done.ctypes.data)) for part in split(alone, steps, workers)]
    else:
        arrived = np.zeros(1, np.int64)
        parts = [(_run_together, (table, worker, workers, steps, arrived.ctypes.data)) for worker in range(workers)]
    # Threads of our own: those of OpenMP may be fewer than asked for, and a barrier would wait for ever.
    helpers = [threading.Thread(target=run, args=arguments) for run, arguments in parts[1:]]
    for helper in helpers:
        helper.start()
    run, arguments = parts[0]
    run(*arguments)
    for helper in helpers:
        helper.join()


def split(seeds: int, steps: int, workers: int) -> list[np.ndarray]:
    """Return for each worker the (seed, first step, last + 1) that it runs, in order.

    All have as many steps, or one more. A seed that two share begins with the second of them and ends with the first,
    so that neither waits for the other (McNaughton 1959). There are no more workers than seeds.
    """
    ends = [worker * seeds * steps // workers for worker in range(workers + 1)]
    parts = []
    for begin, end in pairwise(ends):
        part = []
        for seed in range(begin // steps, -(-end // steps)):
            low, high = max(begin - seed * steps, 0), min(end - seed * steps, steps)
            # Counted from the other side: what lies first on the line is run last.
            part.append((seed, steps - high, steps - low))
        parts.append(np.array(part, np.int64).reshape(-1, 3))
    return parts


@serial
def _run_alone(launches, seeds, parts, done):
    for k in range(len(parts)):
        seed, first, last = parts[k]
        _wait(done + WORD * seed, first)
        for _ in range(first, last):
            for n in range(len(launches)):
                call_kernel(launches[n, 0], seed, seeds, launches[n, 1])
        _add(done + WORD * seed, last - first)


@serial
def _run_together(launches, worker, workers, steps, arrived):
    target = 0
    for _ in range(steps):
        for n in range(len(launches)):
            call_kernel(launches[n, 0], worker, workers, launches[n, 1])
            if workers > 1:
                target += workers
                _add(arrived, 1)
                _wait(arrived, target)


@serial
def _wait(address, value):
    """Wait until the integer at an address is at least a value."""
    looks = 0
    while _look(address) < value:
        looks += 1
        if looks % LOOKS == 0:
            _give_way()


@Kernel
def _feed(worker, workers, arguments):
    steps, sources, targets, inputs, count = integers(arguments, 5)
    first, last = share(worker, workers, count)
    for row in range(first, last):
        step = words(steps, count)[row]
        words(steps, count)[row] = step + 1
        for number in range(inputs):
            source, target = words(sources + 3 * WORD * number, 3), words(targets + 2 * WORD * number, 2)
            size = target[1]
            values = words(source[0] + row * source[1] + step * source[2], size)
            filled = words(target[0] + WORD * row * size, size)
            for k in range(size):
                filled[k] = values[k]


@intrinsic
def _look(typing_context, address):
    """Return the int64 at an address, and see all that was written before it was."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], _INT.as_pointer()), "acquire", WORD)

    return types.int64(types.int64), generate


@intrinsic
def _add(typing_context, address, value):
    """Add to the int64 at an address; who sees it sees all that was written before."""

    def generate(context, builder, signature, arguments):
        builder.atomic_rmw("add", builder.inttoptr(arguments[0], _INT.as_pointer()), arguments[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _give_way(typing_context):
    """Let the system run another thread."""

    def generate(context, builder, signature, arguments):
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), _YIELD)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate
