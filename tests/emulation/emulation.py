"""The kernels of kernels/cuda as a library for the host: compiled with host.h, called like a launch."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

HEADER = Path(__file__).with_name("host.h")
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
    digest = hashlib.sha256(f"{precision}{HEADER.read_text()}{text}".encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"basiscli-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    target = folder / f"{digest}.so"
    if not target.exists():
        made = target.with_suffix(f".{os.getpid()}")
        command = ["g++", "-shared", "-fPIC", "-O2", "-std=c++17", "-w", "-include", str(HEADER)]
        command += [f"-DPRECISION={precision}", "-x", "c++", "-", "-o", str(made)]
        subprocess.run(command, input=text, text=True, check=True)
        made.rename(target)
    return ctypes.CDLL(str(target))


def run(source: str, precision: int, name: str, grid: tuple[int, int, int], threads: int, arguments: list) -> None:
    """Run a kernel; arguments are numpy arrays (as pointers) and numpy scalars, of exactly the types of the kernel."""
    made = library(source, precision)
    signature = getattr(made, f"signature_{name}")
    signature.restype = ctypes.c_char_p
    wanted = re.findall(r"\*?\w", signature().decode())
    given = [
        f"*{LETTERS[a.dtype.name]}" if isinstance(a, np.ndarray) else LETTERS.get(a.dtype.name, "null")
        for a in arguments
    ]
    fits = [a == b or (a == "null" and b[0] == "*") for a, b in zip(given, wanted, strict=True)]
    assert all(fits), f"{name}: given {given}, takes {wanted}"
    assert max(grid) < 2**31 and max(grid[1:]) < 2**16 and threads <= 1024, f"{name}: grid {grid}, {threads} threads"
    values = [np.array(a.ctypes.data if isinstance(a, np.ndarray) else a) for a in arguments]
    table = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    launch = getattr(made, f"launch_{name}")
    launch.restype = ctypes.c_char_p
    failure = launch((ctypes.c_uint * 3)(*grid), threads, table)
    assert failure is None, f"{name}: {failure.decode()}"
