"""Compiling CUDA without a card: NVRTC, the compiler that cupy calls, out of the pip package nvidia-cuda-nvrtc."""

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

import pytest


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
    nvrtc, program = library(), ctypes.c_void_p()
    words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    try:
        code = nvrtc.nvrtcCompileProgram(program, len(options), words)
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        assert code == 0, log.value.decode()
        assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0 and size.value
        return log.value.decode()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
