"""A step of training as a program: recorded once and replayed from then on, wherever the work is done.

On a GPU the recording is a CUDA graph, on the host a list of kernels with their integers (docs/decisions/program.md).
What cannot be recorded, and float64, runs as it stands.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from basiscli import kernels


class Program:
    """A function of named arrays and of inputs that is called for many steps: function(arrays, *inputs).

    It must do the same in every step and leave nothing but what it writes into `arrays`, which stay where they are.

    alone: whether the work of each of the `seeds` may be done without waiting for the others. It takes more memory.
    """

    def __init__(self, function: Callable[..., None], arrays: Mapping[str, np.ndarray], seeds: int, alone: bool):
        self._function, self._arrays = function, arrays
        first = next(iter(arrays.values()))
        if kernels.on_gpu(first):
            from basiscli.device.captured import Captured

            captured = Captured()
            self._run = lambda inputs: self._each(inputs, lambda *parts: captured(self._once, *parts))
        elif first.dtype == np.float32:
            from basiscli.kernels.cpu.replaying import Replayed

            self._run = Replayed(function, arrays, seeds if alone else 0).run
        else:
            self._run = lambda inputs: self._each(inputs, self._once)

    def run(self, inputs: Sequence[np.ndarray]) -> None:
        """Do the steps of inputs (rows, steps, ...); the inputs of one step are the (rows, ...)."""
        if not self._run(inputs):
            self._each(inputs, self._once)

    def _once(self, *inputs: np.ndarray) -> None:
        self._function(self._arrays, *inputs)

    @staticmethod
    def _each(inputs: Sequence[np.ndarray], do: Callable[..., None]) -> bool:
        for step in range(inputs[0].shape[1]):
            do(*(values[:, step] for values in inputs))
        return True
