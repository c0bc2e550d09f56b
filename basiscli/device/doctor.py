"""A survey of this machine: processor, memory, libraries, GPU, and the kernels that would be used."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from basiscli import __version__, data
from basiscli.device import memory, placement
from basiscli.device.threads import blas

GIB = 1 << 30


def findings() -> Iterator[dict]:
    """Yield records of two fields: `what` was examined, and what was `found`."""
    yield _record("basiscli", f"{__version__}, Python {platform.python_version()}, numpy {np.__version__}")
    yield from _host()
    trouble = placement.trouble()
    yield _record("GPU", f"none: {trouble}" if trouble else _card())
    if not trouble:
        yield from _cuda()
    yield _record("data sets", str(data.folder()))
    yield _record("kernels", f"those of the {'CPU' if trouble else 'GPU'}, unless a command says otherwise")


def _host() -> Iterator[dict]:
    import numba

    from basiscli.kernels.cpu import compiling, micro

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield _record("processor", f"{_processor()}, {cores} cores for this process")
    yield _record("vectors", f"{micro.LANES} floats, a tile of {micro.ROWS} x {micro.COLUMNS} in registers")
    yield _record("memory", f"{memory.available() / GIB:.1f} GiB free")
    layer = f"{numba.get_num_threads()} threads of {_threading_layer(numba)}"
    yield _record("numba", f"{numba.__version__}, {layer}")
    kept = f"kept in {compiling.FOLDER}" if compiling.FOLDER else "not kept: each command compiles them"
    yield _record("compiled kernels", kept + (f" ({compiling.TROUBLE})" if compiling.TROUBLE else ""))
    for library in blas().info():
        name = f"{library['internal_api']} {library.get('version')}"
        yield _record("BLAS", f"{name}, {library['num_threads']} threads ({Path(library['filepath']).name})")


def _threading_layer(numba) -> str:
    from basiscli import kernels

    x = np.zeros((1, 1, 1), np.float32)
    kernels.of(x).dense(x, x, x[0])  # numba knows its layer only after a kernel has run
    return numba.threading_layer()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _card() -> str:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    free, total = cupy.cuda.runtime.memGetInfo()
    name = properties["name"].decode()
    size = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    return f"{name}, compute capability {placement.capability() / 10}, {properties['multiProcessorCount']} SMs, {size}"


def _cuda() -> Iterator[dict]:
    import cupy

    from basiscli.kernels import device

    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    yield _record("CUDA", f"driver {_version(driver)}, runtime {_version(runtime)}, cupy {cupy.__version__}")
    able = device.PRECISIONS if placement.capability() >= placement.TENSOR_CORES else device.PRECISIONS[:1]
    yield _record("precisions", ", ".join(able))
    cache = os.environ.get("CUPY_CACHE_DIR") or str(Path("~/.cupy/kernel_cache").expanduser())
    yield _record("CUDA kernels", f"compiled at first use into {cache}")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _record(what: str, value: str) -> dict:
    return {"what": what, "found": value}
