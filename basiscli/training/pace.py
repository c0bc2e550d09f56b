"""How many steps to take before the next look at what else is to be done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Steps that take about so many seconds, judged by the last ones."""

    def __init__(self):
        self._step = float("inf")  # seconds

    def steps(self, seconds: float) -> int:
        """Return how many steps take about so long, at least one."""
        return max(1, int(seconds / self._step))

    @contextmanager
    def measured(self, steps: int) -> Iterator[None]:
        """Measure so many steps."""
        start = time.perf_counter()
        yield
        self._step = max(time.perf_counter() - start, 1e-9) / steps
