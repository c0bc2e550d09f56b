"""A device without a card: the small part of cupy that the suite uses, over numpy, with kernels run by the emulation.

README.md says what cupy does, and what of it stands here; tests/kernels/test_cupy.py compares the two.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np

from basiscli.device import placement
from tests.emulation import cublas, device, emulation
from tests.emulation.array import NO_CUBLAS, _inner, array, asarray, ascontiguousarray, empty, filled, ndarray
from tests.emulation.device import DEVICE, GUARD

__all__ = ["DEVICE", "GUARD", "installed", "modules"]


class RawModule:
    """cupy's, with the emulation as its compiler."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()):
        self.code = code
        self.precision = int(next(o for o in options if o.startswith("-DPRECISION=")).partition("=")[2])

    def get_function(self, name: str) -> Callable:
        """Return a kernel, to be called with grid, block and arguments."""

        def kernel(grid, block, args):
            assert len(grid) == len(block) == 3 and block[1:] == (1, 1)
            values = [_inner(argument) for argument in args]
            DEVICE.enqueue(name, partial(emulation.run, self.code, self.precision, name, grid, block[0], values))

        return kernel


def refused_gemm(*_) -> None:
    """cupy's own products, which a capture does not get; the suite calls cuBLAS itself."""
    if DEVICE.graph is not None:
        raise NotImplementedError(NO_CUBLAS)
    raise AssertionError("cupy's binding of cuBLAS was called")


def properties(device: int) -> dict:
    """Return what cupy says of a card."""
    return {
        "name": b"a fake", "major": 9, "minor": 0, "multiProcessorCount": 1, "totalGlobalMem": DEVICE.memory,
        "clockRate": 1_000_000,
    }  # fmt: skip


def modules() -> dict[str, ModuleType]:
    """Return the modules that stand for cupy, by name."""
    cupy, backend, nvrtc = (ModuleType(name) for name in ("cupy", "cupy_backends.cuda.libs.cublas", "nvrtc"))
    for name, value in {
        "ndarray": ndarray, "empty": empty, "asarray": asarray, "array": array, "RawModule": RawModule,
        "ascontiguousarray": ascontiguousarray, "zeros": partial(filled, 0),
        "asnumpy": lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a),
        "get_default_memory_pool": lambda: device.default_pool, "__version__": "14 (a fake)",
        "float32": np.float32, "float64": np.float64, "int64": np.int64,
    }.items():  # fmt: skip
        setattr(cupy, name, value)
    cupy.__spec__ = ModuleSpec("cupy", None)
    runtime = SimpleNamespace(
        CUDARuntimeError=device.CUDARuntimeError, getDeviceCount=lambda: 1,
        memGetInfo=lambda: (DEVICE.memory - DEVICE.taken, DEVICE.memory), driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000, deviceSynchronize=DEVICE.wait, getDeviceProperties=properties,
    )  # fmt: skip
    cupy.cuda = SimpleNamespace(
        runtime=runtime, Stream=device.Stream, MemoryPool=device.MemoryPool, using_allocator=device.using_allocator,
        get_current_stream=lambda device_id=-1: DEVICE.stream, Event=device.Event, get_elapsed_time=device.elapsed_time,
    )  # fmt: skip
    backend.gemmStridedBatchedEx = refused_gemm
    nvrtc.getVersion = lambda: (13, 0)
    libs = ModuleType("cupy_backends.cuda.libs")
    libs.cublas = backend
    return {
        "cupy": cupy, "cupy_backends": ModuleType("cupy_backends"), "cupy_backends.cuda": ModuleType("cuda"),
        "cupy_backends.cuda.libs": libs, "cupy_backends.cuda.libs.cublas": backend,
        "cupy_backends.cuda.libs.nvrtc": nvrtc,
    }  # fmt: skip


# What holds the cupy that it was imported with.
OURS = ("basiscli.kernels.gpu", "basiscli.kernels.device", "basiscli.kernels.cublas", "basiscli.device.captured")


@contextmanager
def installed():
    """Have the fake in the place of cupy; yields the device. A capture that fails unseen is an error in the end."""
    made = modules()
    there = {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("cupy", "cupy_backends")
    }
    there |= {name: sys.modules[name] for name in OURS if name in sys.modules}
    for name in there:
        del sys.modules[name]
    sys.modules.update(made)
    _forget_ours()
    DEVICE.reset()
    driver, placement._driver = placement._driver, lambda: True
    sys.modules["basiscli.kernels.cublas"] = _ours_of_cublas()
    try:
        yield DEVICE
        assert not DEVICE.broken, DEVICE.broken
    finally:
        placement._driver = driver
        _forget_ours()
        for name in made:
            sys.modules.pop(name, None)
        sys.modules.update(there)
        device.default_pool.free_all_blocks()


def _ours_of_cublas() -> ModuleType:
    """Return basiscli.kernels.cublas, which finds the library of the tests."""
    from basiscli.kernels import cublas as ours

    ours.library = cublas.Library
    return ours


def _forget_ours() -> None:
    """Have what was imported with another cupy imported anew."""
    for name in OURS:
        sys.modules.pop(name, None)
        package, _, module = name.rpartition(".")
        vars(sys.modules.get(package, SimpleNamespace())).pop(module, None)
