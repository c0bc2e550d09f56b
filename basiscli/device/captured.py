"""Steps of training on a GPU as CUDA graphs: the host launches one graph where it would launch a kernel at a time."""

from collections.abc import Callable
from contextlib import suppress

import cupy


class Captured:
    """A function of arrays on a GPU, captured once for each set of shapes and replayed from then on.

    It must be the same in every call and do nothing but launch work: it neither waits nor moves data to the GPU, and
    whatever it changes lies where it lay. The first call of some shapes runs it, so that kernels are compiled and the
    memory is there; the second captures it. Memory comes from a pool that serves these calls alone: a replay writes
    over what is free in it.
    """

    def __init__(self):
        self._stream, self._pool = cupy.cuda.Stream(), cupy.cuda.MemoryPool()
        self._inputs: dict[tuple, list] = {}
        self._graphs: dict[tuple, object] = {}

    def __call__(self, function: Callable, *arrays) -> None:
        """Have function(*arrays) done."""
        shapes = tuple((array.shape, array.dtype.str) for array in arrays)
        if shapes in self._inputs:
            for mine, theirs in zip(self._inputs[shapes], arrays, strict=True):
                mine[...] = theirs
        else:
            self._inputs[shapes] = [array.copy() for array in arrays]
            self._run(function, shapes)
            return
        if shapes not in self._graphs:
            self._graphs[shapes] = self._run(function, shapes, capture=True)
        # The stream is one that the default stream waits for, and the other way round.
        self._graphs[shapes].launch(self._stream)

    def _run(self, function: Callable, shapes: tuple, capture: bool = False) -> object:
        """Run the function, or note what it launches; returns the graph of that."""
        with self._stream, cupy.cuda.using_allocator(self._pool.malloc):
            if not capture:
                return function(*self._inputs[shapes])
            self._stream.begin_capture()
            try:
                function(*self._inputs[shapes])
            except BaseException:
                with suppress(Exception):  # a broken capture may not end either; what broke it is what is told
                    self._stream.end_capture()
                raise
            return self._stream.end_capture()
