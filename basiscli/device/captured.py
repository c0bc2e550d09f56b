"""Steps of training on a GPU as CUDA graphs: the host launches one graph where it would launch a kernel at a time."""

from collections.abc import Callable
from contextlib import suppress

import cupy

from basiscli.notes import log


class Captured:
    """A function of arrays on a GPU, captured once for each set of shapes and replayed from then on.

    It must be the same in every call and do nothing but launch work: it neither waits nor moves data to the GPU, and
    whatever it changes lies where it lay. The first call of some shapes runs it, so that kernels are compiled and the
    memory is there; the second captures it. If that fails, for whatever reason, the function is run from then on as
    it stands, which a warning says. When memory runs out (MemoryError) all graphs are given up first.
    """

    def __init__(self):
        self._stream = cupy.cuda.Stream()
        self._steps: dict[tuple, _Step] = {}
        self._capturing = True

    def __call__(self, function: Callable, *arrays) -> None:
        """Have function(*arrays) done."""
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
        else:  # the stream is one that the default stream waits for, and the other way round
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
    """Calls of one set of shapes: their inputs, their graph, and the memory that they alone work in.

    A pool that several shared would give memory that a graph addresses back to the driver when another runs short.
    """

    def __init__(self, arrays: tuple):
        self.inputs = [array.copy() for array in arrays]
        self.pool = cupy.cuda.MemoryPool()
        self.graph = None

    def take(self, arrays: tuple) -> None:
        """Put the inputs of a call where the graph finds them."""
        for mine, theirs in zip(self.inputs, arrays, strict=True):
            mine[...] = theirs

    def run(self, function: Callable, stream) -> None:
        """Run the function."""
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            function(*self.inputs)

    def capture(self, function: Callable, stream) -> None:
        """Make the graph of what the function launches."""
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            stream.begin_capture()
            try:
                function(*self.inputs)
            except BaseException:
                with suppress(Exception):  # what broke the capture is what is told
                    stream.end_capture()
                raise
            self.graph = stream.end_capture()
