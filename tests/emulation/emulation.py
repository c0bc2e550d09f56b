"""The kernels of kernels/cuda as a library for the host: compiled with host.h, called like a launch.

With BASISCLI_SANITIZE=1 in the environment, and the address sanitizer's library loaded before all others, they are
compiled with g++'s sanitizers for addresses and undefined behaviour (tests/kernels/test_sanitizers.py).
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(__file__).with_name("host.h")
SANITIZED = bool(os.environ.get("BASISCLI_SANITIZE"))
FLAGS = (
    ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
    if SANITIZED
    else ("-O2", "-U_FORTIFY_SOURCE")
)
# Orders in which blocks and threads take turns; larger numbers are seeds of others.
ASCENDING, DESCENDING, SHUFFLED = 0, 1, 2
# The letters of host.h for numpy's types.
LETTERS = {"float32": "f", "float64": "d", "int32": "i", "int64": "q", "uint8": "B"}


def names(source: str) -> list[str]:
    """Return the kernels that a source defines, macros expanded."""
    compiler = shutil.which("g++") or pytest.skip("needs g++")
    text = subprocess.run(
        [compiler, "-E", "-P", "-x", "c++", "-include", str(HEADER), "-DPRECISION=0", "-"],
        input=source, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return re.findall(r'extern "C"\s+void\s+(\w+)\s*\(', text)


@cache
def library(source: str, precision: int) -> ctypes.CDLL:
    """Return the compiled library of a family of kernels."""
    text = source + "".join(f"KERNEL_OF_THE_LIBRARY({name})\n" for name in names(source))
    digest = hashlib.sha256(f"{precision}{FLAGS}{HEADER.read_text()}{text}".encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"basiscli-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    target = folder / f"{digest}.so"
    if not target.exists():
        made = target.with_suffix(f".{os.getpid()}")
        command = ["g++", "-shared", "-fPIC", *FLAGS, "-std=c++17", "-w", "-include", str(HEADER)]
        command += [f"-DPRECISION={precision}", "-x", "c++", "-", "-o", str(made)]
        subprocess.run(command, input=text, text=True, check=True)
        made.rename(target)
    return ctypes.CDLL(str(target))


class Launch(ctypes.Structure):
    """host.h's."""

    _fields_ = [
        ("blocks", ctypes.c_uint), ("threads", ctypes.c_uint), ("order", ctypes.c_uint), ("count", ctypes.c_uint),
        ("chosen", ctypes.c_void_p),
    ]  # fmt: skip


@dataclass
class Turns:
    """How kernels are run: in each of some orders, which must give the same bits; if `ends`, only so many of the first
    and of the last blocks."""

    orders: tuple[int, ...] = (SHUFFLED,)
    ends: int = 0


TURNS = Turns()


@contextmanager
def taking(orders: tuple[int, ...] = (SHUFFLED,), ends: int = 0):
    """Have kernels run otherwise for a while."""
    before = TURNS.orders, TURNS.ends
    TURNS.orders, TURNS.ends = orders, ends
    try:
        yield
    finally:
        TURNS.orders, TURNS.ends = before


def run(source: str, precision: int, name: str, grid: tuple[int, int, int], threads: int, arguments: list) -> None:
    """Run a kernel; arguments are numpy arrays (as pointers) and numpy scalars, of exactly the types of the kernel."""
    made = library(source, precision)
    _require_types(made, name, arguments)
    assert grid[0] < 2**31 and grid[1:] == (1, 1) and threads <= 1024, f"{name}: grid {grid}, {threads} threads"
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    first, *others = TURNS.orders
    before = [a.copy() for a in arrays] if others else []
    _launch(made, name, grid[0], threads, first, arguments)
    after = [a.copy() for a in arrays] if others else []
    for order in others:
        for a, values in zip(arrays, before, strict=True):
            a[...] = values
        _launch(made, name, grid[0], threads, order, arguments)
        same = [
            np.array_equal(a, values, equal_nan=a.dtype.kind == "f") for a, values in zip(arrays, after, strict=True)
        ]
        assert all(same), f"{name} depends on the order of its blocks or threads"


def _require_types(made: ctypes.CDLL, name: str, arguments: list) -> None:
    """Raise AssertionError unless arguments are of the types that a kernel takes."""
    signature = getattr(made, f"signature_{name}")
    signature.restype = ctypes.c_char_p
    wanted = re.findall(r"\*?\w", signature().decode())
    given = [
        f"*{LETTERS[a.dtype.name]}" if isinstance(a, np.ndarray) else LETTERS.get(a.dtype.name, "null")
        for a in arguments
    ]
    assert len(given) == len(wanted), f"{name}: given {given}, takes {wanted}"
    fits = [a == b or (a == "null" and b[0] == "*") for a, b in zip(given, wanted, strict=True)]
    assert all(fits), f"{name}: given {given}, takes {wanted}"


def _launch(made: ctypes.CDLL, name: str, blocks: int, threads: int, order: int, arguments: list) -> None:
    values = [np.array(a.ctypes.data if isinstance(a, np.ndarray) else a) for a in arguments]
    table = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    ends = min(TURNS.ends, blocks)
    chosen = np.array(sorted({*range(ends), *range(blocks - ends, blocks)}), np.uint32)
    how = Launch(blocks, threads, order, len(chosen), chosen.ctypes.data)
    launch = getattr(made, f"launch_{name}")
    launch.restype = ctypes.c_char_p
    failure = launch(ctypes.byref(how), table)
    assert failure is None, f"{name}: {failure.decode()}"
