"""How the compiled kernels are built: options shared by all of them."""

import os
from collections.abc import Callable

from numba import config, njit
from numba.core import event

# OpenMP first: a launch costs less than through the alternatives.
config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
# A thread that waits for the others spins a little and then sleeps. GNU OpenMP's own default spins for milliseconds:
# with three processes on two cores a launch then took 8 ms, with this 0.13 ms (docs/decisions/kernels.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Only explicit pranges are parallel: array expressions are left alone, which halves the compilation.
_PRANGE_ONLY = {
    "comprehension": False,
    "prange": True,
    "reduction": False,
    "inplace_binop": False,
    "setitem": False,
    "numpy": False,
    "stencil": False,
    "fusion": False,
}
# Sums may be reordered into vectors; NaN and infinity keep their meaning (a diverged seed must be seen).
FASTMATH = {"reassoc", "contract", "nsz"}

serial = njit(nogil=True, cache=True, fastmath=FASTMATH)
parallel = njit(nogil=True, cache=True, fastmath=FASTMATH, parallel=_PRANGE_ONLY)


def announce(notice: Callable[[], None]) -> None:
    """Call `notice` once, when the first kernel has to be compiled because numba's cache does not hold it."""

    class FirstCompilation(event.Listener):
        def on_start(self, occasion):
            event.unregister("numba:compile", self)
            notice()

        def on_end(self, occasion):
            """Nothing: only the beginning is announced."""

    event.register("numba:compile", FirstCompilation())
