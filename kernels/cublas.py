"""Products of matrices by cuBLAS, called through ctypes.

cupy has cuBLAS too, but refuses to call it while a stream is captured, as every step of training is. cuBLAS itself may
be captured, if its handle and the memory that it works in are there before (NVIDIA, cuBLAS library, "CUDA Graphs
Support"): both are made by the first product, and the first step of some shapes is never captured.
"""

import ctypes
import importlib
from ctypes import POINTER, c_int, c_longlong, c_size_t, c_void_p
from functools import cache

import cupy
import numpy as np

# Bytes that cuBLAS works in: what NVIDIA recommends for the cards that want most.
WORKSPACE = 32 << 20
# Numbers of cublas_api.h and library_types.h.
OPERATION = {False: 0, True: 1}  # as it is, transposed
FLOAT32 = 0
COMPUTE = {"float32": 68, "tf32": 77, "bf16": 75}
DEFAULT_ALGORITHM = -1
ALLOCATION_FAILED = 3

_MATRIX = (c_void_p, c_int, c_int, c_longlong)  # address, type, distance of columns, distance of matrices
# What the functions that are called take; all return a status.
SIGNATURES = {
    "cublasCreate_v2": (POINTER(c_void_p),),
    "cublasSetStream_v2": (c_void_p, c_void_p),
    "cublasSetWorkspace_v2": (c_void_p, c_void_p, c_size_t),
    "cublasGemmStridedBatchedEx": (
        c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p, *_MATRIX, *_MATRIX, c_void_p, *_MATRIX,
        c_int, c_int, c_int,
    ),
}  # fmt: skip


class CublasError(RuntimeError):
    """cuBLAS refused or failed."""


def library() -> ctypes.CDLL:
    """Return cuBLAS as cupy has found it. Raises ImportError or OSError where it is missing."""
    importlib.import_module("cupy_backends.cuda.libs.cublas")  # loads it into this process
    made = ctypes.CDLL(f"libcublas.so.{cupy.cuda.runtime.runtimeGetVersion() // 1000}")
    for name, types in SIGNATURES.items():
        function = getattr(made, name)
        function.argtypes, function.restype = types, c_int
    return made


def multiply(
    precision: str, transposed: tuple[bool, bool], sizes: tuple[int, int, int], left: tuple, right: tuple, out: tuple,
    count: int,
) -> None:  # fmt: skip
    """out = left right for `count` matrices, columns first, on the current stream.

    sizes are rows and columns of out, and the length of the sums; left, right and out are an address, the distance of
    columns and the distance of matrices, in floats. Raises ValueError for a size beyond 32 bits,
    MemoryError or CublasError with its status.
    """
    _handle().multiply(precision, transposed, sizes, left, right, out, count)


class _Handle:
    """A handle of cuBLAS, and the memory that it works in, for as long as the process lives."""

    def __init__(self):
        self._library, self._handle = library(), c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self._handle))
        # A pool of its own: no other may take these bytes back.
        self._pool = cupy.cuda.MemoryPool()
        self._workspace = self._pool.malloc(WORKSPACE)
        self._factors = np.array([1, 0], np.float32)  # of the product, and of what out held before

    def multiply(self, precision, transposed, sizes, left, right, out, count):
        if max(*sizes, count, *(operand[1] for operand in (left, right, out))) >= 2**31:
            raise ValueError(f"matrices of {sizes} are too large for a product")
        stream = cupy.cuda.get_current_stream().ptr
        self._call("cublasSetStream_v2", self._handle, stream)  # which takes the workspace away
        self._call("cublasSetWorkspace_v2", self._handle, self._workspace.ptr, WORKSPACE)
        one = self._factors.ctypes.data
        self._call(
            "cublasGemmStridedBatchedEx", self._handle, *(OPERATION[flag] for flag in transposed), *sizes,
            one, *_matrix(left), *_matrix(right), one + self._factors.itemsize, *_matrix(out),
            count, COMPUTE[precision], DEFAULT_ALGORITHM,
        )  # fmt: skip

    def _call(self, name: str, *arguments) -> None:
        if status := getattr(self._library, name)(*arguments):
            kind = MemoryError if status == ALLOCATION_FAILED else CublasError
            raise kind(f"{name} failed with status {status}")


def _matrix(operand: tuple) -> tuple:
    address, columns, matrices = operand
    return address, FLOAT32, columns, matrices


_handle = cache(_Handle)
