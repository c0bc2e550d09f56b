"""Steps of training on a GPU as CUDA graphs: the host launches one graph instead of many kernels."""

from collections.abc import Callable
from contextlib import suppress

import cupy

from basiscli.notes import log


class Captured:
    """A function of arrays on a GPU, captured once for each set of shapes and replayed from then on.

    Every call must pass the same function. The function may only launch work: it must not wait or move data to the GPU,
    and the arrays that it changes must keep their addresses. The first call with some shapes runs the function, which
    compiles kernels and allocates memory. The second call captures it. If the capture fails for any reason, all later
    calls run the function without a graph, and a warning says so. When memory runs out (MemoryError), all graphs are
    discarded before the error is raised.
    """

    def __init__(self):
        self._stream = cupy.cuda.Stream()
        self._steps: dict[tuple, _Step] = {}
        self._capturing = True

    def __call__(self, function: Callable, *arrays) -> None:
        """Do the work of function(*arrays)."""
        try:
            self._do(function, arrays)
        except MemoryError:
            self._steps.clear()
            raise

    def _do(self, function: Callable, arrays: tuple) -> None:
        shapes = tuple((array.shape, array.dtype.str) for array in arrays)
        known = shapes in self._steps
        if not known:
            self._steps[shapes] = _Step(arrays)
        step = self._steps[shapes]
        if known:
            step.take(arrays)
            if self._capturing and step.graph is None:
                self._capture(function, step)
        if step.graph is None:
            step.run(function, self._stream)
        else:  # this stream and the default stream wait for each other
            step.graph.launch(self._stream)

    def _capture(self, function: Callable, step: "_Step") -> None:
        try:
            step.capture(function, self._stream)
        except MemoryError:
            raise
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            log.warning(f"goes on without a CUDA graph, more slowly ({why})")
            self._capturing = False
            self._stream = cupy.cuda.Stream()  # a broken capture may not have ended


class _Step:
    """The calls with one set of shapes: their inputs, their graph, and their own memory pool.

    With a shared pool, a step that runs out of memory could return memory to the driver that another graph addresses.
    """

    def __init__(self, arrays: tuple):
        self.inputs = [array.copy() for array in arrays]
        self.pool = cupy.cuda.MemoryPool()
        self.graph = None

    def take(self, arrays: tuple) -> None:
        """Copy the inputs of a call into the arrays that the graph reads."""
        for mine, theirs in zip(self.inputs, arrays, strict=True):
            mine[...] = theirs

    def run(self, function: Callable, stream) -> None:
        """Run the function."""
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            function(*self.inputs)

    def capture(self, function: Callable, stream) -> None:
        """Make the graph of the work that the function launches."""
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            stream.begin_capture()
            try:
                function(*self.inputs)
            except BaseException:
                with suppress(Exception):  # the error that broke the capture is the one to raise
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()
