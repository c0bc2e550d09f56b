"""Launching the kernels of cuda/*.cu through cupy, and products of matrices (`cublas`). S seeds.

A family of kernels is one file. It is compiled when one of its kernels is first launched, for the card that is there,
and kept in cupy's cache folder. Only the products know about precision: dense maps and convolutions.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cupy
import numpy as np

from basiscli.kernels import cublas

# float32: as it says. tf32 and bf16: factors rounded to 11 and 8 significant bits, added up in float32.
PRECISIONS = ("float32", "tf32", "bf16")
FAMILIES = ("convolution", "normalisation", "pointwise", "pooling", "training")
FOLDER = Path(__file__).parent / "cuda"
THREADS = 256
# More blocks of an elementwise kernel than fill any card: each thread then takes several elements.
BLOCKS = 4096
# CUDA's bound for the first axis of a grid.
MOST_BLOCKS = 2**31 - 1
_precision = "float32"


def precision() -> str:
    """Return the precision of products."""
    return _precision


@contextmanager
def multiplying(name: str) -> Iterator[None]:
    """Have products in a precision, one of PRECISIONS."""
    global _precision
    before, _precision = _precision, name
    try:
        yield
    finally:
        _precision = before


def source(family: str) -> str:
    """Return the text of a family of kernels as it is compiled."""
    return (FOLDER / "common.cuh").read_text() + (FOLDER / f"{family}.cu").read_text()


def options(name: str) -> tuple[str, ...]:
    """Return what the compiler is told for a precision."""
    return "-std=c++17", f"-DPRECISION={PRECISIONS.index(name)}"


def launch(family: str, name: str, grid: tuple[int, ...], threads: int, *arguments) -> None:
    """Launch a kernel on a grid of one to three dimensions.

    Of the arguments int becomes int32, float float32, None a null pointer; others are as they are. After them a kernel
    of several dimensions gets all but the last of these (`block_of` in common.cuh), since its blocks lie in one row.
    Raises ValueError for a number of samples, positions or units beyond 32 bits, or for more blocks than a card takes.
    """
    blocks = math.prod(grid)
    if blocks > MOST_BLOCKS:
        raise ValueError(f"{name}: {blocks} blocks are more than a launch can have")
    if blocks:
        _kernel(family, name, _precision if family == "convolution" else "float32")(
            (blocks, 1, 1), (threads, 1, 1), tuple(map(_typed, (*arguments, *grid[:-1])))
        )


def over(family: str, name: str, count: int, *arguments, rows: int | None = None) -> None:
    """Launch an elementwise kernel over `count` elements; given `rows`, over as many of each of so many seeds."""
    blocks = min(-(-count // THREADS), BLOCKS)
    launch(family, name, (blocks,) if rows is None else (blocks, rows), THREADS, *arguments)


def whole(array: "cupy.ndarray") -> "cupy.ndarray":
    """Return the array, copied unless it is C-contiguous. Raises ValueError if it is not float32."""
    if array.dtype != np.float32:
        raise ValueError(f"kernels on a GPU take float32, not {array.dtype}")
    return array if array.flags.c_contiguous else cupy.ascontiguousarray(array)


def by_seed(array: "cupy.ndarray") -> tuple["cupy.ndarray", np.int64]:
    """Return the array and how many floats its seeds lie apart, 0 if it is shared; copied unless each is contiguous."""
    if not array[0].flags.c_contiguous or array.data.ptr % 16:  # kernels read four floats at once
        array = cupy.array(array, order="C")
    whole(array[0])
    return array, np.int64(array.strides[0] // 4 if len(array) > 1 else 0)


def product(a, b, out, transpose_a: bool = False, transpose_b: bool = False) -> None:
    """out = a b for each seed, either factor transposed if asked for: (S or 1, M, K), (S or 1, K, N) -> (S, M, N).

    Rows must be contiguous. cuBLAS has columns where we have rows: it is asked for outᵀ = bᵀ aᵀ.
    """
    seeds, rows, columns = out.shape
    depth = a.shape[1] if transpose_a else a.shape[2]
    cublas.multiply(
        _precision, (transpose_b, transpose_a), (columns, rows, depth), _operand(b), _operand(a), _operand(out), seeds
    )


@cache
def _kernel(family: str, name: str, precision: str):
    return _module(family, precision).get_function(name)


@cache
def _module(family: str, precision: str):
    return cupy.RawModule(code=source(family), options=options(precision))


def _typed(argument):
    if isinstance(argument, np.generic):  # float64 among them, which is a float to Python
        return argument
    if isinstance(argument, bool | int):
        if not -(2**31) <= argument < 2**31:
            raise ValueError(f"{argument} samples, positions or units of one seed are too many for a kernel")
        return np.int32(argument)
    if isinstance(argument, float):
        return np.float32(argument)
    return np.uintp(0) if argument is None else argument


def _operand(matrix) -> tuple[int, int, int]:
    """Return address, length of a row and distance of seeds; a shared matrix has a distance of 0."""
    if matrix.dtype != np.float32 or matrix.strides[2] != 4:
        raise ValueError("a product takes float32 with contiguous rows")
    # A matrix of one row may have any stride there.
    row = matrix.strides[1] // 4 if matrix.shape[1] > 1 else matrix.shape[2]
    return matrix.data.ptr, row, matrix.strides[0] // 4 if len(matrix) > 1 else 0


def elements(array) -> np.int64:
    """Return how many elements an array has, as kernels take it."""
    return np.int64(math.prod(array.shape))
