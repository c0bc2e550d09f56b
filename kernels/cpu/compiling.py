"""How the compiled kernels are built, with options that all of them share, and where they are kept."""

import os
from collections.abc import Callable
from functools import partial

from numba import config, njit
from numba.core import caching, event

from basiscli.kernels.cpu import folders

FOLDER, TROUBLE = folders.choose(config.CACHE_DIR)
if FOLDER:
    config.CACHE_DIR = FOLDER
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


class _Implementation(caching.CompileResultCacheImpl):
    """numba's own, in FOLDER alone: beside the sources, files would outlive an uninstallation."""

    _locator_classes = caching.CompileResultCacheImpl._locator_classes[:1]


class _Cache(caching.FunctionCache):
    """numba's cache of a function, where no fault of a file is fatal: what it cannot read or keep is compiled."""

    _impl_class = _Implementation

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # of a damaged file, which the next one replaces
            return None

    def save_overload(self, sig, data):
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # of a damaged index
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            folders.note_unkept(f"{FOLDER}: {error.strerror}")


def _compiled(options: dict, function: Callable) -> Callable:
    dispatcher = njit(nogil=True, **options)(function)
    if FOLDER:
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError:  # numba cannot make its folder below FOLDER
            folders.note_unkept(f"{FOLDER}: cannot be written")
    return dispatcher


# No fastmath: with it a kernel out of the cache, which LLVM optimises once more, can round otherwise than the same
# kernel just compiled. Without it the source fixes every bit, and a sum is as fast as its partial sums are written.
serial = partial(_compiled, {})
parallel = partial(_compiled, {"parallel": _PRANGE_ONLY})


_announced: list[Callable[[], None]] = []


def announce(notice: Callable[[], None]) -> None:
    """Call `notice` when the first kernel has to be compiled because numba's cache does not hold it.

    In a program this happens once, whoever asks for it.
    """

    class FirstCompilation(event.Listener):
        def on_start(self, occasion):
            event.unregister("numba:compile", self)
            if not _announced:
                _announced.append(notice)
                notice()

        def on_end(self, occasion):
            """Nothing: only the beginning is announced."""

    event.register("numba:compile", FirstCompilation())
