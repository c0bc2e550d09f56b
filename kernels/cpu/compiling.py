"""How the compiled kernels are built: options shared by all of them."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from numba import config, njit
from numba.core import event


def _cache_folder() -> str:
    """Return the folder for compiled kernels of exactly these sources.

    numba notices a change in the file of a function, but not in what that file imports (micro.py); and beside the
    sources its files would outlive an uninstallation and shadow the next installation.
    """
    import platformdirs

    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return str(Path(platformdirs.user_cache_dir("basiscli"), "kernels", digest.hexdigest()[:16]))


if not config.CACHE_DIR:  # NUMBA_CACHE_DIR, if somebody has set it
    config.CACHE_DIR = _cache_folder()
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

# No fastmath: with it a kernel out of the cache, which LLVM optimises once more, can round otherwise than the same
# kernel just compiled. Without it the source fixes every bit, and a sum is as fast as its partial sums are written.
serial = njit(nogil=True, cache=True)
parallel = njit(nogil=True, cache=True, parallel=_PRANGE_ONLY)


def announce(notice: Callable[[], None]) -> None:
    """Call `notice` once, when the first kernel has to be compiled because numba's cache does not hold it."""

    class FirstCompilation(event.Listener):
        def on_start(self, occasion):
            event.unregister("numba:compile", self)
            notice()

        def on_end(self, occasion):
            """Nothing: only the beginning is announced."""

    event.register("numba:compile", FirstCompilation())
