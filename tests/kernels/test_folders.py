"""Compiled kernels are kept where it works, and nowhere if nothing works; that is never an error."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from numba.core import caching

from basiscli.device import doctor
from basiscli.kernels.cpu import compiling, folders

PROGRAM = """
import resource, sys
from basiscli.cli.messages import notes_on_stderr
with notes_on_stderr():
    if "full" in sys.argv:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    from small import add, double
    print(add(1.0), double(2.0))
    from basiscli.kernels.cpu import compiling
    print(compiling.FOLDER)
"""
SMALL = """
from basiscli.kernels.cpu.compiling import serial
@serial
def add(x):
    return x + 1
@serial
def double(x):
    return x * 2
"""


def run(folder: Path, *arguments: str, **variables: str | None) -> tuple[str, list[str]]:
    """Compile two small functions in a program; return where they are kept, and the notes."""
    (folder / "small.py").write_text(SMALL)
    environment = {name: value for name, value in (dict(os.environ) | variables).items() if value is not None}
    environment["PYTHONPATH"] = str(folder)
    environment.pop("NUMBA_CACHE_DIR", None) if "NUMBA_CACHE_DIR" not in variables else None
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    numbers, kept = finished.stdout.splitlines()
    assert numbers == "2.0 4.0"
    return kept, finished.stderr.splitlines()


def test_without_a_home_kernels_go_to_the_next_folder(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    places = {"HOME": "/dev/null", "XDG_CACHE_HOME": None, "TMPDIR": str(temporary)}
    kept, notes = run(tmp_path, **places)
    assert Path(kept).is_relative_to(temporary / f"basiscli-{os.geteuid()}") and list(Path(kept).rglob("*.nbc"))
    (note,) = notes
    assert note.startswith(f"basiscli: compiled kernels are kept in {kept} (/dev/null/.cache") and "irectory" in note
    for path in Path(kept).rglob("*.nbi"):
        path.write_bytes(path.read_bytes()[:20])
    assert run(tmp_path, **places) == (kept, notes), "a damaged file is compiled again"


@pytest.mark.slow
def test_on_a_full_disk_kernels_are_kept_nowhere(tmp_path):
    kept, notes = run(tmp_path, "full", HOME=str(tmp_path))
    assert kept == "None" and len(notes) == 1
    assert notes[0].startswith("basiscli: compiled kernels cannot be kept") and "File too large" in notes[0]


@pytest.mark.slow
def test_a_folder_that_the_user_names_and_that_does_not_work(tmp_path):
    kept, notes = run(tmp_path, HOME=str(tmp_path), NUMBA_CACHE_DIR="/dev/null/mine", XDG_CACHE_HOME=None)
    assert kept.startswith(str(tmp_path / ".cache")) and len(notes) == 1 and "/dev/null/mine" in notes[0]


def test_a_disk_that_fills_up_later_is_noted_once(monkeypatch, caplog):
    def full(self, sig, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.FunctionCache, "save_overload", full)
    monkeypatch.setattr(folders, "_noted", [])
    for function in (lambda x: x + 1, lambda x: x + 2):
        assert compiling.serial(function)(1) in (2, 3)
    (note,) = caplog.messages
    assert note.startswith("compiled kernels cannot be kept") and "No space left" in note


def test_compiling_is_announced_once(monkeypatch):
    monkeypatch.setattr(compiling, "_announced", [])
    said: list[str] = []
    for word in ("first", "second"):
        compiling.announce(lambda word=word: said.append(word))
    for function in (lambda x: x + 3, lambda x: x + 4):
        compiling.serial(function)(1)
    compiling.announce(lambda: said.append("third"))
    compiling.serial(lambda x: x + 5)(1)
    assert len(said) == 1


def test_a_folder_of_another_user_is_not_taken(tmp_path, monkeypatch):
    assert folders.fault_of(tmp_path / "mine") is None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert folders.fault_of(tmp_path / "new/one") == f"{tmp_path} belongs to another user"
    assert not (tmp_path / "new").exists()
    assert folders.fault_of(tmp_path / "new/one", named=True) is None


def test_no_home_at_all_is_no_folder_in_this_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folders.fault_of(Path("~/.cache/basiscli")) == "there is no home folder"
    assert not list(tmp_path.iterdir())


def test_no_folder_for_temporary_files(monkeypatch):
    def nowhere():
        raise FileNotFoundError(2, "no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.setattr(folders, "fault_of", lambda folder, named=False: "read-only")
    monkeypatch.setattr(folders, "_noted", [])
    folder, trouble = folders.choose("")
    assert folder is None and str(trouble).endswith("read-only") and len(folders._noted) == 1


@pytest.mark.parametrize(
    ("folder", "said"), [("/kernels", "kept in /kernels (full)"), (None, "not kept: each command compiles them (full)")]
)
def test_doctor_says_where_kernels_are(folder, said, monkeypatch):
    monkeypatch.setattr(compiling, "FOLDER", folder)
    monkeypatch.setattr(compiling, "TROUBLE", "full")
    assert {"what": "compiled kernels", "found": said} in list(doctor.findings())
