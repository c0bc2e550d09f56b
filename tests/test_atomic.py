"""Whole files or none, and errors that name them."""

import errno
import os
from pathlib import Path

import pytest

from basiscli import atomic


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_an_error_about_the_temporary_file_names_the_file(tmp_path, monkeypatch, call):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(*arguments, **options):
        named = [str(arguments[0])] if isinstance(arguments[0], str | Path) else []
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)

    monkeypatch.setattr(*((Path, "replace") if call == "replace" else (os, call)), fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        atomic.write_text(target, "new")
    monkeypatch.undo()
    assert caught.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and target.read_text() == "old"


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic.replacing(tmp_path / "a.txt"):
        (tmp_path / "b.txt").read_text()
    assert Path(caught.value.filename).name == "b.txt"
