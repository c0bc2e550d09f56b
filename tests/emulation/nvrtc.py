"""Compiling CUDA without a card: NVRTC, the compiler that cupy calls, out of the pip package nvidia-cuda-nvrtc."""

import ctypes
import importlib.util
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest


def of_cupy(architecture: str) -> tuple[str, ...]:
    """Return the options that cupy adds to ours (tests/kernels/test_cupy.py)."""
    return "-ftz=true", f"-arch={architecture}", "--device-as-default-execution-space"


@cache
def library() -> ctypes.CDLL:
    """Return NVRTC; the test is skipped without it."""
    found = importlib.util.find_spec("nvidia")
    for folder in found.submodule_search_locations if found else ():
        for path in sorted(Path(folder).glob("**/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc")


def compiled(source: str, options: tuple[str, ...]) -> str:
    """Compile to machine code and return what the compiler said. Raises AssertionError with that where it fails."""
    with _program(source, options) as (program, log):
        size = ctypes.c_size_t()
        assert library().nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0 and size.value
        return log


def assembly(source: str, options: tuple[str, ...]) -> str:
    """Compile to PTX for a virtual architecture and return it. Raises AssertionError where it fails."""
    with _program(source, options) as (program, _):
        return _text(library().nvrtcGetPTXSize, library().nvrtcGetPTX, program)


@contextmanager
def _program(source: str, options: tuple[str, ...]):
    nvrtc, program = library(), ctypes.c_void_p()
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        code = nvrtc.nvrtcCompileProgram(program, len(options), words)
        log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
        assert code == 0, log
        yield program, log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of, get, program) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.value.decode()
