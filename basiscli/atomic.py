"""Whole files or none: a file is written under a temporary name in its folder, put on the disk, and renamed."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".partial"


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file that takes the name of `target` when the block ends.

    On any failure the file is removed and `target` stays as it was. Every writer has a temporary file of its own, so of
    two writers of one target the last one wins, with a whole file. What a killed process left behind is removed. An
    OSError about the temporary file names `target`.
    """
    _remove_abandoned(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        # The lock says that the writer lives; it goes with the process.
        lock = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
            place(partial, target)
        finally:
            partial.unlink(missing_ok=True)
            os.close(lock)
    except OSError as error:
        if error.filename is None or str(error.filename) in (str(partial), str(target.parent)):
            error.filename = str(target)
        raise


def place(path: Path, target: Path) -> None:
    """Give a file its name, after its contents are on the disk; then the folder's entries are put there, too."""
    _sync(path)
    path.replace(target)
    _sync(target.parent)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no other program that asks for it works there. The lock goes with the process.

    Raises BlockingIOError if another one holds it.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def write_text(target: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def _remove_abandoned(target: Path) -> None:
    """Remove temporary files of a target whose writers are gone."""
    for path in target.parent.glob(f".{_escaped(target.name)}.????????{SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _escaped(name: str) -> str:
    """Return a glob that matches exactly a name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _sync(path: Path) -> None:
    """Put the contents of a file, or the entries of a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
