"""The device on which work is done: the host, or a GPU through cupy. Only work on a GPU imports cupy.

`using` chooses the device for a command. Then `to_device` moves arrays to the device, `to_host` brings them back, and
`kernels.of` finds the kernels for an array.
"""

import ctypes
import gc
import importlib.util
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np

from basiscli import kernels
from basiscli.device import memory
from basiscli.errors import BadInput

AUTO, CPU, CUDA = DEVICES = ("auto", "cpu", "cuda")
FLOAT32, _, _ = PRECISIONS = ("float32", "tf32", "bf16")
# The compute capability, times 10, that a card needs for the precisions other than float32.
TENSOR_CORES = 80
# The end of messages: computing on the host avoids every failure of a GPU.
WAY_OUT = "or take `device` cpu"
_on_gpu = False
_cached: dict[int, tuple[weakref.ref, Any]] = {}


@contextmanager
def using(device: str, precision: str = FLOAT32) -> Iterator[None]:
    """Work on a device, AUTO, CPU or CUDA, with products in a precision: "float32", "tf32" or "bf16".

    AUTO is a GPU if cupy finds one, otherwise the host. Raises BadInput, with a way out, if CUDA or a precision that
    only GPUs have is asked for and no such GPU can be used.
    """
    global _on_gpu
    before, _on_gpu = _on_gpu, _choose(device, precision)
    try:
        with multiplying(precision):
            yield
    finally:
        _on_gpu = before
        _cached.clear()


def on_gpu() -> bool:
    """Return whether work is done on a GPU."""
    return _on_gpu


def multiplying(precision: str):
    """Return a context in which a GPU multiplies in a precision. On the host it does nothing."""
    if not _on_gpu:
        return nullcontext()
    from basiscli.kernels import device

    return device.multiplying(precision)


def to_device(array: np.ndarray) -> np.ndarray:
    """Return an array on the device. It is copied only if it lies elsewhere."""
    if not _on_gpu or kernels.on_gpu(array):
        return array
    import cupy

    return cupy.asarray(array)


def tree_to_device(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays by name, on the device."""
    return {name: to_device(values) for name, values in arrays.items()} if _on_gpu else cast("dict[str, Any]", arrays)


def to_device_cached(array: np.ndarray) -> np.ndarray:
    """Return an array of the host on the device.

    The device copy is made on first use and cached. Do not modify the array.
    """
    if not _on_gpu:
        return array
    cached = _cached.get(id(array))
    if cached is None or cached[0]() is not array:
        number = id(array)
        _cached[number] = weakref.ref(array, lambda _: _cached.pop(number, None)), to_device(array)
    return _cached[id(array)][1]


def to_host(array: Any) -> Any:
    """Return an array on the host. This waits for the GPU."""
    return array.get() if kernels.on_gpu(array) else array


def wait() -> None:
    """Wait until the GPU has finished all work."""
    if _on_gpu:
        import cupy

        cupy.cuda.runtime.deviceSynchronize()


def available_memory() -> int:
    """Return the bytes that new arrays may take on the device."""
    if not _on_gpu:
        return memory.available()
    import cupy

    pool = cupy.get_default_memory_pool()
    return cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()


def release_memory() -> None:
    """Return unused memory to the GPU's driver."""
    gc.collect()
    if _on_gpu:
        import cupy

        cupy.get_default_memory_pool().free_all_blocks()


def failed(error: Exception) -> bool:
    """Return whether an error comes from the GPU itself. After such an error this process cannot use the GPU."""
    return _on_gpu and type(error).__name__ in ("CUDARuntimeError", "CUDADriverError", "CublasError")


def versions() -> dict[str, str]:
    """Return cupy's version, card and precision, which decide the bits of a result on a GPU. Empty on the host."""
    if not _on_gpu:
        return {}
    import cupy

    from basiscli.kernels import device

    card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return {"cupy": cupy.__version__, "device": card, "precision": device.precision()}


def trouble() -> str | None:
    """Return in a few words why no GPU can be used, None if a GPU can be used."""
    if importlib.util.find_spec("cupy") and not _driver():
        return "no NVIDIA driver on this machine"
    try:
        import cupy
    except ModuleNotFoundError:
        return "cupy is not installed: pip install 'basiscli[cuda]', or [cuda12] for CUDA 12"
    except ImportError as error:
        return f"cupy cannot be imported ({_line(error)})"
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            return "cupy finds no GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no NVIDIA driver that fits this CUDA ({_line(error)})"
    try:
        importlib.import_module("cupy_backends.cuda.libs.cublas")
        importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()
    except (ImportError, RuntimeError) as error:
        return f"a library of CUDA is missing ({_line(error)}): pip install 'basiscli[cuda]'"
    return None


def _driver() -> bool:
    """Return whether the machine has an NVIDIA driver. This is faster than importing cupy."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def capability() -> int:
    """Return the compute capability of the GPU, 90 for 9.0."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return 10 * properties["major"] + properties["minor"]


def _choose(device: str, precision: str) -> bool:
    """Return whether to work on a GPU."""
    if device == CPU or (device == AUTO and trouble()):
        if precision != FLOAT32:
            reason = "" if device == CPU else f" ({trouble()})"
            raise BadInput(f"`precision` {precision}: only a GPU has it{reason}; leave it out")
        return False
    if device == CUDA and (why := trouble()):
        raise BadInput(f"`device` cuda: {why}, {WAY_OUT}")
    if precision != FLOAT32 and capability() < TENSOR_CORES:
        raise BadInput(f"`precision` {precision}: needs a card of compute capability 8.0, {WAY_OUT}")
    return True


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
