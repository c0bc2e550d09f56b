"""A device without a card: the small part of cupy that the suite uses, over numpy, with kernels run by the emulation.

It is stricter than convenient: an array of the device mixes with no array of the host, waiting and moving data are
counted and refused while a graph is captured, fresh memory holds NaN, bytes around every array must stay as they are,
and what is captured does not run before it is launched.
"""

import ctypes
import math
import sys
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np

from tests.emulation import emulation

MARGIN, ALIGNMENT, GUARD, FRESH = 512, 512, 0xA5, 0xFF
MEMORY = 8 << 30
FUNCTIONS = (np.zeros_like, np.ones_like, np.empty_like, np.nan_to_num, np.repeat, np.concatenate, np.where)


class Device:
    """What a device does: it runs work, or notes it in the graph that is being captured."""

    def __init__(self):
        self.graph: list[Callable] | None = None
        self.stream = self.capturing = None
        self.waits = self.uploads = self.launches = self.graph_launches = 0
        self.log: list[str] = []  # names of kernels, in order
        self.blocks: weakref.WeakSet = weakref.WeakSet()

    def enqueue(self, name: str, work: Callable) -> None:
        """Run some work of a name, or note it."""
        if self.graph is not None:
            assert self.stream is self.capturing, "work on another stream while one is captured"
            self.graph.append(partial(self._run, name, work))
        else:
            self._run(name, work)

    def _run(self, name: str, work: Callable) -> None:
        self.launches += 1
        self.log.append(name)
        with np.errstate(all="ignore"):
            work()
        for block in list(self.blocks):
            assert block.intact(), f"{name} wrote beside an array"

    def wait(self) -> None:
        """Note that the host waits for the device."""
        assert self.graph is None, "the host waits while a graph is captured"
        self.waits += 1


class Block:
    """Memory of one array, back in its pool when the last array that lives in it is gone."""

    def __init__(self, pool: "MemoryPool", memory: np.ndarray, size: int):
        self.pool, self.memory, self.end = pool, memory, MARGIN + size
        memory[self.end :] = GUARD
        DEVICE.blocks.add(self)

    def intact(self) -> bool:
        """Return whether the bytes around the array are as they were."""
        return bool((self.memory[:MARGIN] == GUARD).all() and (self.memory[self.end :] == GUARD).all())

    def __del__(self):
        self.pool.free.setdefault(self.memory.size, []).append(self.memory)


class MemoryPool:
    """cupy's: memory that arrays leave serves the next of the same size."""

    def __init__(self):
        self.free: dict[int, list[np.ndarray]] = {}
        self.total = 0

    def malloc(self, size: int) -> Block:
        """Return a block of a size in bytes."""
        asked, size = size, max(-(-size // ALIGNMENT), 1) * ALIGNMENT + 2 * MARGIN
        if self.free.get(size):
            memory = self.free[size].pop()
        else:
            assert DEVICE.graph is None, "memory is asked of the driver while a graph is captured"
            self.total += size
            raw = np.empty(size + ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            memory = raw[start : start + size]
            memory[...] = GUARD
        if DEVICE.graph is None:
            memory[MARGIN:-MARGIN] = FRESH
        return Block(self, memory, asked)

    def free_bytes(self) -> int:
        """Return the bytes that no array uses."""
        return sum(size * len(blocks) for size, blocks in self.free.items())


DEVICE = Device()
_default_pool = MemoryPool()
_allocator = _default_pool.malloc


class ndarray:
    """An array of the device."""

    __module__ = "cupy"

    def __init__(self, array: np.ndarray, block: Block):
        self._a, self._block = array, block

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    strides = property(lambda self: self._a.strides)
    flags = property(lambda self: self._a.flags)
    data = property(lambda self: SimpleNamespace(ptr=self._a.ctypes.data))

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        assert method == "__call__", f"{ufunc.__name__}.{method}"
        if out is None:
            return compute(ufunc.__name__, partial(ufunc, **options), *inputs)
        write(ufunc.__name__, out[0], partial(ufunc, **options), *inputs)
        return out[0]

    def __array_function__(self, function, types, arguments, options):
        assert function in FUNCTIONS, f"np.{function.__name__} of an array on the device"
        if "shape" in options:
            kind = arguments[1] if len(arguments) > 1 else options.get("dtype", arguments[0].dtype)
            value = {np.empty_like: None, np.zeros_like: 0, np.ones_like: 1}[function]
            return empty(options["shape"], kind) if value is None else filled(value, options["shape"], kind)
        if isinstance(arguments[0], list | tuple):
            return compute(function.__name__, lambda *parts: function(list(parts), *arguments[1:], **options),
                           *arguments[0])  # fmt: skip
        return compute(function.__name__, partial(function, **options), *arguments)

    def __getitem__(self, index):
        form, arrays = _taken_apart(index)
        return compute("getitem", lambda a, *chosen: a[_put_together(form, chosen)], self, *arrays)

    def __setitem__(self, index, value):
        form, arrays = _taken_apart(index)

        def store(target, value, *chosen):
            target[_put_together(form, chosen)] = value

        values = [_inner(v) for v in (self, value, *arrays)]
        DEVICE.enqueue("setitem", lambda: store(*values))

    def __bool__(self):
        return bool(self.get())

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def get(self) -> np.ndarray:
        """Return a copy on the host."""
        DEVICE.wait()
        return self._a.copy()

    def set(self, values: np.ndarray) -> None:
        """Copy an array of the host into this one."""
        assert isinstance(values, np.ndarray) and values.shape == self.shape and values.dtype == self.dtype
        assert self._a.flags.c_contiguous, "cupy sets contiguous arrays only"
        _upload()
        self._a[...] = values

    def astype(self, dtype, copy=True):
        """Return the array in a type."""
        return self if not copy and self.dtype == dtype else compute("astype", lambda a: a.astype(dtype), self)

    def copy(self):
        """Return a copy."""
        return compute("copy", np.copy, self)


def _method(name: str) -> Callable:
    return lambda self, *arguments, **options: compute(
        name, lambda a: np.asarray(getattr(a, name)(*arguments, **options)), self
    )


for _name in ("reshape", "swapaxes", "sum", "any", "all", "mean", "std"):
    setattr(ndarray, _name, _method(_name))


def _operator(ufunc: np.ufunc, swapped: bool, inplace: bool) -> Callable:
    def apply(self, other):
        _refuse_host(other)
        if inplace:
            write(ufunc.__name__, self, ufunc, self, other)
            return self
        return compute(ufunc.__name__, ufunc, *((other, self) if swapped else (self, other)))

    return apply


for _name, _ufunc in {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "mod": np.remainder,
    "floordiv": np.floor_divide, "and": np.bitwise_and, "or": np.bitwise_or, "pow": np.power, "matmul": np.matmul,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, False, False))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, True, False))
    setattr(ndarray, f"__i{_name}__", _operator(_ufunc, False, True))
for _name, _ufunc in {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}.items():  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_ufunc, False, False))
ndarray.__neg__ = lambda self: compute("negative", np.negative, self)
ndarray.__invert__ = lambda self: compute("invert", np.invert, self)
ndarray.__hash__ = object.__hash__


def compute(name: str, function: Callable, *arguments):
    """Return function(*arguments) as an array of the device: a view where numpy gives one, else by a launch."""
    values = [_inner(argument) for argument in arguments]
    # While a graph is captured indices are what memory happens to hold: any will do to see the result's shape.
    seen = [np.zeros_like(v) if k and DEVICE.graph is not None and _is_index(v) else v for k, v in enumerate(values)]
    with np.errstate(all="ignore"):
        found = np.asarray(function(*seen))
    for argument in arguments:
        if isinstance(argument, ndarray) and np.may_share_memory(found, argument._a):
            return ndarray(found, argument._block)
    result = empty(found.shape, found.dtype)
    target = result._a  # not the array itself: work that was noted must not keep memory from its pool
    DEVICE.enqueue(name, lambda: np.copyto(target, function(*values)))
    return result


def write(name: str, out: ndarray, function: Callable, *arguments) -> None:
    """out[...] = function(*arguments), by a launch."""
    values, target = [_inner(argument) for argument in arguments], out._a
    DEVICE.enqueue(name, lambda: np.copyto(target, function(*values), casting="same_kind"))


def _inner(value):
    _refuse_host(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_inner, value))
    return value._a if isinstance(value, ndarray) else value


def _is_index(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "i"


def _refuse_host(value) -> None:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")


def _taken_apart(index) -> tuple:
    """Return an index without its arrays, and those; what is noted in a graph must not keep them from their pool."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [asarray(part) for part in parts if isinstance(part, ndarray | np.ndarray)]
    form = tuple("array" if isinstance(part, ndarray | np.ndarray) else part for part in parts)
    return form, arrays


def _put_together(form: tuple, arrays: tuple) -> tuple:
    waiting = iter(arrays)
    return tuple(next(waiting) if isinstance(part, str) else part for part in form)


def _upload() -> None:
    assert DEVICE.graph is None, "data is moved to the device while a graph is captured"
    DEVICE.uploads += 1


def empty(shape, dtype=np.float64, order="C") -> ndarray:
    """Return an array that holds NaN or the like."""
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    block = _allocator(math.prod(shape) * np.dtype(dtype).itemsize)
    memory = block.memory[MARGIN : MARGIN + math.prod(shape) * np.dtype(dtype).itemsize]
    return ndarray(memory.view(dtype).reshape(shape), block)


def filled(value: float, shape, dtype=np.float64) -> ndarray:
    """Return an array of one value."""
    made = empty(shape, dtype)
    target = made._a
    DEVICE.enqueue("fill", lambda: target.fill(value))
    return made


def asarray(value, dtype=None) -> ndarray:
    """Return a value as an array of the device."""
    if isinstance(value, ndarray):
        return value if dtype is None else value.astype(dtype, copy=False)
    host = np.asarray(value, dtype)
    made = empty(host.shape, host.dtype)
    _upload()
    made._a[...] = host
    return made


def array(value, dtype=None, order=None) -> ndarray:
    """Return a copy on the device."""
    return asarray(value, dtype).copy() if isinstance(value, ndarray) else asarray(value, dtype)


def ascontiguousarray(value, dtype=None) -> ndarray:
    """Return a C-contiguous array; cupy takes none of the host."""
    assert isinstance(value, ndarray), f"cupy.ascontiguousarray of {type(value)}"
    made = asarray(value, dtype)
    return made if made.flags.c_contiguous else made.copy()


class Stream:
    """cupy's: everything runs at once, so a stream only matters for capturing."""

    def __init__(self, null=False, non_blocking=False):
        assert not non_blocking, "work of the default stream would not be waited for"

    def __enter__(self):
        assert DEVICE.stream is None, "a stream within a stream"
        DEVICE.stream = self
        return self

    def __exit__(self, *exception):
        DEVICE.stream = None

    def begin_capture(self) -> None:
        """Note what comes instead of running it."""
        assert DEVICE.graph is None and DEVICE.stream is self
        DEVICE.graph, DEVICE.capturing = [], self

    def end_capture(self) -> "Graph":
        """Return what was noted."""
        work, DEVICE.graph = DEVICE.graph, None
        return Graph(work)


class Graph:
    """Work that was captured."""

    def __init__(self, work: list[Callable]):
        self.work = work

    def launch(self, stream=None) -> None:
        """Run it."""
        assert DEVICE.graph is None
        DEVICE.graph_launches += 1
        for one in self.work:
            one()


class RawModule:
    """cupy's, with the emulation as its compiler."""

    def __init__(self, code: str, options: tuple[str, ...]):
        self.code = code
        self.precision = int(next(o for o in options if o.startswith("-DPRECISION=")).partition("=")[2])

    def get_function(self, name: str) -> Callable:
        """Return a kernel, to be called with grid, block and arguments."""

        def kernel(grid, block, arguments):
            assert len(grid) == len(block) == 3 and block[1:] == (1, 1)
            values = [_inner(argument) for argument in arguments]
            work = partial(emulation.run, self.code, self.precision, name, grid, block[0], values)
            DEVICE.enqueue(name, work)

        return kernel


def gemm(handle, trans_a, trans_b, m, n, k, alpha, a, _a, lda, a_step, b, _b, ldb, b_step, beta, c, _c, ldc, c_step,
         batch, compute, algorithm) -> None:  # fmt: skip
    """cublasGemmStridedBatchedEx: C = alpha op(A) op(B) + beta C, columns first."""

    def matrix(address, rows, columns, ld, step):
        assert ld >= max(1, rows), "a leading dimension shorter than a column"
        last = step * (batch - 1) + ld * (columns - 1) + rows
        flat = np.ctypeslib.as_array((ctypes.c_float * last).from_address(address))
        return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), (4 * step, 4, 4 * ld))

    scale_a, scale_c = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
    left = matrix(a, *((m, k) if trans_a == 0 else (k, m)), lda, a_step)
    right = matrix(b, *((k, n) if trans_b == 0 else (n, k)), ldb, b_step)
    out = matrix(c, m, n, ldc, c_step)

    def multiply():
        x = rounded(left if trans_a == 0 else left.swapaxes(1, 2), compute)
        y = rounded(right if trans_b == 0 else right.swapaxes(1, 2), compute)
        out[...] = scale_a * np.matmul(x, y) + (scale_c * out if scale_c else 0)

    DEVICE.enqueue("gemm", multiply)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """Return float32 without its last `bits` bits, to nearest."""
    if not bits:
        return x
    whole = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64) + (1 << (bits - 1))
    return (whole >> bits << bits).astype(np.uint32).view(np.float32)


class CUDARuntimeError(RuntimeError):
    """cupy's."""


def modules() -> dict[str, ModuleType]:
    """Return the modules that stand for cupy, by name."""
    cupy, cublas = ModuleType("cupy"), ModuleType("cupy_backends.cuda.libs.cublas")
    for name, value in {
        "ndarray": ndarray, "empty": empty, "asarray": asarray, "array": array, "RawModule": RawModule,
        "ascontiguousarray": ascontiguousarray, "zeros": partial(filled, 0),
        "asnumpy": lambda x: x.get() if isinstance(x, ndarray) else np.asarray(x),
        "get_default_memory_pool": lambda: _default_pool, "__version__": "14 (a fake)",
        "float32": np.float32, "float64": np.float64, "int64": np.int64,
    }.items():  # fmt: skip
        setattr(cupy, name, value)
    runtime = SimpleNamespace(
        CUDA_R_32F=0, CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1,
        memGetInfo=lambda: (MEMORY - _default_pool.total, MEMORY), driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000, deviceSynchronize=lambda: DEVICE.wait(),
        getDeviceProperties=lambda device: {"name": b"a fake", "major": 9, "minor": 0, "multiProcessorCount": 1,
                                            "totalGlobalMem": MEMORY, "clockRate": 1_000_000},
    )  # fmt: skip
    cupy.cuda = SimpleNamespace(
        runtime=runtime, device=SimpleNamespace(get_cublas_handle=lambda: 0), Stream=Stream, MemoryPool=MemoryPool,
        using_allocator=using_allocator,
    )  # fmt: skip
    cublas.gemmStridedBatchedEx, cublas.CUBLAS_GEMM_DEFAULT = gemm, -1
    cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_T = 0, 1
    # The bits that a format drops.
    cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_COMPUTE_32F_FAST_TF32, cublas.CUBLAS_COMPUTE_32F_FAST_16BF = 0, 13, 16
    nvrtc, libs = ModuleType("cupy_backends.cuda.libs.nvrtc"), ModuleType("cupy_backends.cuda.libs")
    nvrtc.getVersion = lambda: (13, 0)
    libs.cublas = cublas
    return {
        "cupy": cupy, "cupy_backends": ModuleType("cupy_backends"), "cupy_backends.cuda": ModuleType("cuda"),
        "cupy_backends.cuda.libs": libs, "cupy_backends.cuda.libs.cublas": cublas,
        "cupy_backends.cuda.libs.nvrtc": nvrtc,
    }  # fmt: skip


@contextmanager
def using_allocator(allocator: Callable):
    """Have memory from another pool."""
    global _allocator
    before, _allocator = _allocator, allocator
    try:
        yield
    finally:
        _allocator = before


OURS = ("basiscli.kernels.gpu", "basiscli.kernels.device")


@contextmanager
def installed():
    """Have the fake in the place of cupy; yields the device."""
    there = {name: sys.modules.get(name) for name in (*modules(), *OURS)}
    sys.modules.update(modules())
    _forget_ours()
    try:
        yield DEVICE
    finally:
        _forget_ours()
        for name, module in there.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _forget_ours() -> None:
    """Have what was imported with another cupy imported anew."""
    for name in OURS:
        sys.modules.pop(name, None)
        package, _, module = name.rpartition(".")
        vars(sys.modules.get(package, SimpleNamespace())).pop(module, None)
