"""The wings of the house: imports between them run downward, and no wing is a circle inside."""

import ast
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a module imports from its own wing and from the floors below, not from a neighbour on its floor.
FLOORS = [
    {"errors", "rng", "atomic", "notes"},
    {"kernels", "data", "names"},
    {"device"},
    {"analysis", "nn"},
    {"training", "plots"},
    {"files"},
    {"alignment"},
    {"foreign"},
    {"experiments"},
    {"study"},
    {"api"},
    {"cli"},
]
FLOOR = {wing: floor for floor, wings in enumerate(FLOORS) for wing in wings}
ENTRANCES = {"basiscli", "basiscli.__main__"}
ON_HDF5 = {f"basiscli.files.{name}" for name in ("hdf5", "tree", "writer")}
LONGEST_FUNCTION, LONGEST_MODULE = 60, 350


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for folder, package in (
        (ROOT / "basiscli", "basiscli"),
        (ROOT / "kernels", "basiscli.kernels"),
        (ROOT / "data", "basiscli.data"),
    ):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "basiscli":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def wing(module: str) -> str:
    """The wing of a module: `basiscli.nn.ops.dense` is of `nn`."""
    return module.split(".")[1]


@pytest.mark.parametrize("module", sorted(MODULES.keys() - ENTRANCES))
def test_imports_run_downward(module):
    for other in imports(MODULES[module]) - ENTRANCES:
        same = wing(other) == wing(module)
        assert same or FLOOR[wing(other)] < FLOOR[wing(module)], f"{module} imports {other}"


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_no_wing_is_a_circle(name):
    inside = {module for module in MODULES if module not in ENTRANCES and wing(module) == name}
    graph = {module: (imports(MODULES[module]) & inside) - {module} for module in inside}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_packages_import_nothing():
    """`basiscli --help` loads nothing heavy, and a wing is no second name for what its modules hold."""
    for module, path in MODULES.items():
        if path.name == "__init__.py" and module not in (
            "basiscli",
            "basiscli.kernels",
            "basiscli.kernels.cpu",
            "basiscli.data",
        ):
            assert not imports(path), module


def test_the_library_neither_prints_nor_speaks_of_the_command_line():
    """Notes go to the logger, and messages name the parameter `lr`; cli/ prints, and says --lr."""
    for module, path in MODULES.items():
        if module not in ENTRANCES and wing(module) != "cli":
            text = re.sub(r"^ *(>>>|\.\.\.) .*", "", path.read_text(), flags=re.M)  # examples may print
            said = re.findall(r"\bprint\(|(?<!var\()--[a-z][a-z-]*", text)  # var(--red) is CSS
            assert not said, f"{module}: {said}"


def test_only_the_modules_on_hdf5_import_h5py_and_only_the_command_line_imports_click():
    for module, path in MODULES.items():
        text = path.read_text()
        assert "import h5py" not in text or module in ON_HDF5, path
        assert "import click" not in text or wing(module) == "cli", path


TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "benchmarks" not in path.parts)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_imports_from_another_test(path):
    """Shared code lies in tests/helpers and tests/emulation, shared fixtures in a conftest.py."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith("tests")):
            for name in (*node.module.split("."), *(alias.name for alias in node.names)):
                assert not name.startswith("test_") and name != "conftest", f"{path.name} imports {name}"


def test_no_function_stands_twice_in_the_tests():
    bodies = defaultdict(list)
    for path in TESTS:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (node.body[1:] or not isinstance(node.body[0], ast.Expr)):
                bodies[node.name, "".join(ast.unparse(line) for line in node.body)].append(path.name)
    assert not {name: paths for (name, _), paths in bodies.items() if len(paths) > 1}


def test_functions_and_modules_are_short():
    """Kernels and tables of data may be longer; of a command, whose options stand before it, only the body counts."""
    for module, path in MODULES.items():
        text = path.read_text()
        lines = text.count("\n")
        kernel = module.startswith("basiscli.kernels")
        assert kernel or lines <= LONGEST_MODULE, f"{module}: {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and not kernel:
                first = node.body[0] if module.startswith("basiscli.cli.") else node
                length = node.end_lineno - first.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{module}: {node.name} has {length} lines"
