"""The cupy that is installed is the one that the suite and its stand-in reckon with. It imports without a driver."""

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import basiscli
from basiscli import kernels
from tests.emulation import device, fake, nvrtc
from tests.emulation.array import FUNCTIONS, UFUNCS, ndarray

cupy = pytest.importorskip("cupy", exc_type=ImportError)

FOLDERS = (Path(kernels.__file__).parent, Path(basiscli.__file__).parent)
# What cupy's arrays have that the stand-in writes otherwise, and what is the stand-in's own.
OWN = {"__module__", "__dict__", "__weakref__", "__doc__", "__init__"}
RENAMED = {"value", "array"}  # first parameters, which nobody names


def chains():
    """Yield what our sources ask of cupy: chains of names like cupy.cuda.Stream."""
    for folder in FOLDERS:
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and re.fullmatch(r"cupy(\.\w+)+", text := ast.unparse(node)):
                    yield text
                if isinstance(node, ast.Constant) and re.fullmatch(r"cupy_backends[\w.]*", str(node.value)):
                    yield node.value


def parameters(function) -> list[str]:
    """Return the names of a function's parameters; Cython says them in the first line of the documentation."""
    try:
        named = inspect.signature(function).parameters.values()
        return [
            part.name
            for part in named
            if part.name != "self" and part.kind not in (part.VAR_POSITIONAL, part.VAR_KEYWORD)
        ]
    except (ValueError, TypeError):
        inside = re.search(r"\((.*)\)", (function.__doc__ or "").partition("\n")[0])
        assert inside, f"{function}: no signature"
        names = [part.partition("=")[0].split() for part in inside[1].split(",") if part.strip()]
        return [name[-1] for name in names if name[-1] not in ("self", "*")]


def found(text: str):
    """Return what a chain of names stands for."""
    if text.startswith("cupy_backends"):
        return importlib.util.find_spec(text)
    value = cupy
    for name in text.split(".")[1:]:
        value = getattr(value, name)
    return value


def test_all_that_is_asked_of_it_is_there():
    asked = set(chains())
    assert {"cupy.cuda.Stream", "cupy.RawModule", "cupy_backends.cuda.libs.cublas"} <= asked
    for text in asked:
        assert found(text) is not None, text


def compared(ours, theirs, name: str) -> None:
    """Compare what the stand-in has with cupy: names, and the parameters of functions."""
    for part, value in vars(ours).items():
        if part.startswith("__") and isinstance(ours, ModuleType):
            continue
        assert hasattr(theirs, part), f"{name}.{part}"
        if isinstance(value, SimpleNamespace):
            compared(value, getattr(theirs, part), f"{name}.{part}")
        elif inspect.isfunction(value) or inspect.isclass(value):
            fits(value, getattr(theirs, part), f"{name}.{part}")


def fits(ours, theirs, name: str) -> None:
    """Check that cupy's function, or class with its methods, takes what the stand-in takes."""
    if inspect.isclass(ours):
        for part, method in vars(ours).items():
            if inspect.isfunction(method) and not part.startswith("_"):
                fits(method, getattr(theirs, part), f"{name}.{part}")
        return
    taken, given = parameters(theirs), parameters(ours)
    for k, part in enumerate(given):
        assert part in taken or part in RENAMED or k < len(taken) == len(given), f"{name}({part}), not of {taken}"


def test_the_stand_in_has_nothing_that_it_has_not():
    made = fake.modules()
    compared(made["cupy"], cupy, "cupy")


def test_arrays_of_the_stand_in_have_nothing_that_its_arrays_have_not():
    for name in set(vars(ndarray)) - OWN - {"_a", "_block"}:
        assert hasattr(cupy.ndarray, name), name
    for name in ("get", "set", "astype", "copy"):
        fits(vars(ndarray)[name], getattr(cupy.ndarray, name), name)


def test_functions_of_numpy_that_its_arrays_answer():
    for function in FUNCTIONS:
        assert hasattr(cupy, function.__name__)
    for name in UFUNCS:
        assert callable(getattr(cupy, name)), name


def test_errors_are_those_that_are_caught():
    from cupy.cuda.memory import OutOfMemoryError

    for ours, theirs in ((device.OutOfMemoryError, OutOfMemoryError),
                         (device.CUDARuntimeError, cupy.cuda.runtime.CUDARuntimeError)):  # fmt: skip
        assert (ours.__name__, ours.__module__) == (theirs.__name__, theirs.__module__)
        assert ours.__bases__ == theirs.__bases__
    assert str(OutOfMemoryError(1, 2)) == str(device.OutOfMemoryError(1, 2))


def test_it_refuses_what_the_stand_in_refuses():
    for stream in (cupy.cuda.Stream(null=True), device.Stream(null=True)):
        with pytest.raises(RuntimeError, match="cannot capture on the default"):
            stream.begin_capture()
    with fake.installed():
        made = importlib.import_module("cupy")
        for package in (cupy, made):
            with pytest.raises(TypeError):
                package.ascontiguousarray(np.zeros(2))
            with pytest.raises(TypeError):
                package.RawModule("code")


def test_its_compiler_gets_the_options_that_ours_are_compiled_with(monkeypatch):
    """All of its way from source and options to machine code, but for the loading of that."""
    nvrtc.library()  # where it looks for the library, this process has it already
    from cupy.cuda import compiler

    seen, loaded = [], []

    class Program(compiler._NVRTCProgram):
        def compile(self, options=(), log_stream=None):
            seen.append(options)
            return super().compile(options, log_stream)

    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    monkeypatch.setattr(compiler, "_NVRTCProgram", Program)
    monkeypatch.setattr(
        compiler.function, "Module", lambda: SimpleNamespace(load=loaded.append, _set_mapping=seen.append)
    )
    # It keeps what it finds for each card, which it would ask the driver for.
    monkeypatch.setattr(
        compiler, "_get_arch_for_options_for_nvrtc", compiler._get_arch_for_options_for_nvrtc.__wrapped__
    )
    with fake.installed():
        from basiscli.kernels import device

        text, options = device.source("pointwise"), device.options("float32")
    compiler._compile_module_with_cache(text, options, arch="90")
    assert seen[-2] == (*options, *nvrtc.of_cupy("sm_90"))
    assert loaded[0].startswith(b"\x7fELF")
