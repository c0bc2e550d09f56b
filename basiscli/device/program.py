"""A step of training as a program: recorded once and replayed from then on, wherever the work is done.

On a GPU the recording is a CUDA graph, on the host a list of kernels with their integers (docs/decisions/program.md).
What cannot be recorded, and float64, runs as it stands.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from basiscli import kernels

# The arrays of a seed that is worked on without waiting for others take no more than this.
ALONE_BYTES = 1 << 23


class Memory:
    """Blocks that programs of one owner work in; they never run at the same time."""

    def __init__(self):
        self.blocks: list[np.ndarray] = []


def fits_alone(like: np.ndarray, floats: int) -> bool:
    """Return whether seeds whose step makes arrays of so many floats should be worked on without waiting for others."""
    return not kernels.on_gpu(like) and floats * like.itemsize <= ALONE_BYTES


class Program:
    """A function of named arrays and of inputs that is called for many steps: function(arrays, *inputs).

    It must do the same in every step and leave nothing but what it writes into `arrays`, which stay where they are.

    alone: whether the work of each of the `seeds` may be done without waiting for the others. It takes more memory.
    captured: whether to replay on a GPU, too.
    """

    def __init__(
        self,
        function: Callable[..., None],
        arrays: Mapping[str, np.ndarray],
        seeds: int,
        alone: bool,
        memory: Memory | None = None,
        captured: bool = True,
    ):
        self._function, self._arrays = function, arrays
        first = next(iter(arrays.values()))
        self._replay = None
        if kernels.on_gpu(first) and captured:
            from basiscli.device.captured import Captured

            graphs = Captured()
            self._replay = lambda inputs: self._each(inputs, lambda *parts: graphs(self._once, *parts))
        elif not kernels.on_gpu(first) and first.dtype == np.float32:
            from basiscli.kernels.cpu.replaying import Replayed

            self._replay = Replayed(function, arrays, seeds if alone else 0, (memory or Memory()).blocks).run

    def run(self, inputs: Sequence[np.ndarray]) -> None:
        """Do the steps of inputs (rows, steps, ...); the inputs of one step are the (rows, ...)."""
        if self._replay is None or not self._replay(inputs):
            self._each(inputs, self._once)

    def _once(self, *inputs: np.ndarray) -> None:
        self._function(self._arrays, *inputs)

    @staticmethod
    def _each(inputs: Sequence[np.ndarray], do: Callable[..., None]) -> bool:
        for step in range(inputs[0].shape[1]):
            do(*(values[:, step] for values in inputs))
        return True
