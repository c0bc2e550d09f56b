"""The archives that are installed and shipped hold every file, and run outside the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Folders of the checkout and where they install.
INSTALLED = {"basiscli": "basiscli", "kernels": "basiscli/kernels", "data": "basiscli/data"}
IGNORED = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "runs", "build", "dist", "*.egg-info")

pytestmark = pytest.mark.slow


def files_of(folder: Path) -> set[str]:
    """The files below a folder, by their path in it."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if "__pycache__" not in name}


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build an archive ("sdist" or "wheel") of a source tree with the build backend that pyproject.toml names."""
    program = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    made = subprocess.run([sys.executable, "-c", program, folder], cwd=source, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder / made.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the checkout, without what git ignores: building writes into the tree."""
    target = tmp_path_factory.mktemp("source") / "tree"
    return Path(shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*IGNORED), symlinks=True))


@pytest.fixture(scope="module")
def unpacked(copy, tmp_path_factory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", copy, folder)) as archive:
        # Python 3.11.4 and later ask for a filter.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    return tree


@pytest.fixture(scope="module")
def wheel(unpacked, tmp_path_factory) -> Path:
    """The wheel, built from the source archive as an installer does."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def test_the_source_archive_has_the_whole_tree(copy, unpacked):
    wanted = {name for name in files_of(copy) if ".egg-info" not in name and not name.startswith(".git")}
    assert not wanted - files_of(unpacked)


def test_the_wheel_has_every_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for folder, target in INSTALLED.items():
        assert not {f"{target}/{name}" for name in files_of(ROOT / folder)} - held


def test_a_study_is_planned_from_the_wheel(wheel, tmp_path):
    """In a fresh environment that borrows the dependencies, from a folder that is not the checkout."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    ran = subprocess.run(
        [environment / "bin/basiscli", "study", "--dry-run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "train" in ran.stdout + ran.stderr
    where = subprocess.run(
        [python, "-c", "import basiscli.kernels as k; print(k.__file__)"], cwd=tmp_path, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(environment), where.stderr
