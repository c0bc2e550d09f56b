"""How the compiled kernels are built: options shared by all of them."""

from collections.abc import Callable

from numba import config, njit
from numba.core import event

# OpenMP first: the pure-Python alternative "workqueue" costs ten times as much a launch when threads spin.
config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

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
