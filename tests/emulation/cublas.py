"""What stands for cuBLAS: its functions take what ctypes would hand them, and read memory as cuBLAS does."""

import ctypes
import importlib
from collections.abc import Callable

import numpy as np

from tests.emulation.device import DEVICE

NOT_INITIALISED, INVALID_VALUE, MINIMUM = 1, 7, 4 << 20
# Of the numbers that say in what to compute: the bits that a format drops.
DROPPED = {68: 0, 77: 13, 75: 16}


class Library:
    """The functions of SIGNATURES in basiscli.kernels.cublas; each checks what it is given against that."""

    def __init__(self):
        self.stream = self.workspace = None
        self.signatures = importlib.import_module("basiscli.kernels.cublas").SIGNATURES

    def __getattr__(self, name: str) -> Callable:
        types, function = self.signatures[name], getattr(type(self), f"_{name}")

        def call(*arguments):
            return function(self, *(_converted(kind, value) for kind, value in zip(types, arguments, strict=True)))

        return call

    def _cublasCreate_v2(self, handle) -> int:
        if DEVICE.graph is not None:
            return NOT_INITIALISED
        handle.value = id(self)
        return 0

    def _cublasSetStream_v2(self, handle, stream) -> int:
        self.stream, self.workspace = stream or 0, None
        return 0

    def _cublasSetWorkspace_v2(self, handle, workspace, size) -> int:
        self.workspace = size if workspace else None
        return 0

    def _cublasGemmStridedBatchedEx(self, handle, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, a_step,
                                    b, b_type, ldb, b_step, beta, c, c_type, ldc, c_step, batch, compute,
                                    algorithm) -> int:  # fmt: skip
        """C = alpha op(A) op(B) + beta C, columns first."""
        assert handle == id(self) and self.stream == DEVICE.stream.ptr, "a stream that is not the current one"
        assert (a_type, b_type, c_type, algorithm) == (0, 0, 0, -1)
        if DEVICE.graph is not None and not (self.workspace or 0) >= MINIMUM:
            return INVALID_VALUE
        scale_a, scale_c = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
        left = _matrix(a, batch, *((m, k) if trans_a == 0 else (k, m)), lda, a_step)
        right = _matrix(b, batch, *((k, n) if trans_b == 0 else (n, k)), ldb, b_step)
        out = _matrix(c, batch, m, n, ldc, c_step)

        def multiply():
            x = rounded(left if trans_a == 0 else left.swapaxes(1, 2), DROPPED[compute])
            y = rounded(right if trans_b == 0 else right.swapaxes(1, 2), DROPPED[compute])
            out[...] = scale_a * np.matmul(x, y) + (scale_c * out if scale_c else 0)

        DEVICE.enqueue("gemm", multiply)
        return 0


def _matrix(address: int, batch: int, rows: int, columns: int, ld: int, step: int) -> np.ndarray:
    assert ld >= max(1, rows), "a leading dimension shorter than a column"
    last = step * (batch - 1) + ld * (columns - 1) + rows
    flat = np.ctypeslib.as_array((ctypes.c_float * last).from_address(address))
    return np.lib.stride_tricks.as_strided(flat, (batch, rows, columns), (4 * step, 4, 4 * ld))


def _converted(kind: type, value: object):
    """Return an argument as a C function gets it. Raises ctypes.ArgumentError or AssertionError where it cannot."""
    if issubclass(kind, ctypes._Pointer):
        return kind.from_param(value)._obj
    made = kind(value.value if isinstance(value, ctypes.c_void_p) else value)
    assert kind is ctypes.c_void_p or made.value == value, f"{value} does not fit {kind.__name__}"
    return made.value


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """Return float32 without its last `bits` bits, to nearest."""
    if not bits:
        return x
    whole = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64) + (1 << (bits - 1))
    return (whole >> bits << bits).astype(np.uint32).view(np.float32)
