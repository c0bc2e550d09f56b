"""What stands for cupy's arrays: numpy's, in memory of the device; what mixes them with the host's is refused."""

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np

from tests.emulation.device import DEVICE, MARGIN, Block, allocate

# What of numpy is asked for with arrays of the device; cupy has all of it (tests/kernels/test_cupy.py).
FUNCTIONS = (
    np.broadcast_to,
    np.zeros_like,
    np.ones_like,
    np.empty_like,
    np.nan_to_num,
    np.repeat,
    np.concatenate,
    np.where,
)
UFUNCS = (
    "absolute", "add", "bitwise_and", "bitwise_or", "divide", "equal", "exp", "floor_divide", "greater",
    "greater_equal", "invert", "isfinite", "less", "less_equal", "matmul", "maximum", "minimum", "multiply",
    "negative", "not_equal", "power", "remainder", "sqrt", "subtract", "true_divide",
)  # fmt: skip


NO_CUBLAS = "calling cuBLAS API during stream capture is currently unsupported"


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
        assert method == "__call__" and ufunc.__name__ in UFUNCS, f"{ufunc.__name__}.{method}"
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

    def set(self, arr: np.ndarray) -> None:
        """Copy an array of the host into this one."""
        assert isinstance(arr, np.ndarray) and arr.shape == self.shape and arr.dtype == self.dtype
        assert self._a.flags.c_contiguous, "cupy sets contiguous arrays only"
        DEVICE.upload()
        self._a[...] = arr

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
    if _name != "matmul":
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
    if name == "matmul" and DEVICE.graph is not None:
        raise NotImplementedError(NO_CUBLAS)
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
    if any(array.dtype == bool for array in arrays):
        DEVICE.wait()  # for how many are chosen
    form = tuple("array" if isinstance(part, ndarray | np.ndarray) else part for part in parts)
    return form, arrays


def _put_together(form: tuple, arrays: tuple) -> tuple:
    waiting = iter(arrays)
    return tuple(next(waiting) if isinstance(part, str) else part for part in form)


def empty(shape, dtype=np.float64, order="C") -> ndarray:
    """Return an array that holds NaN or the like."""
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    block = allocate(math.prod(shape) * np.dtype(dtype).itemsize)
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
    DEVICE.upload()
    made._a[...] = host
    return made


def array(value, dtype=None, order=None) -> ndarray:
    """Return a copy on the device."""
    return asarray(value, dtype).copy() if isinstance(value, ndarray) else asarray(value, dtype)


def ascontiguousarray(value, dtype=None) -> ndarray:
    """Return a C-contiguous array; cupy takes none of the host."""
    if not isinstance(value, ndarray):
        raise TypeError(f"cupy.ascontiguousarray of {type(value)}")
    made = asarray(value, dtype)
    return made if made.flags.c_contiguous else made.copy()
