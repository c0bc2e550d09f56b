"""Checks on the files that a command will write, made before any work is done."""

from collections.abc import Iterable
from pathlib import Path

from basiscli.errors import BadInput


def require_new(target: Path, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Raise BadInput if a file cannot be created: it exists without `force`, is a folder, or its folder is missing.

    inputs: files that are never overwritten, even with `force`.
    """
    if target.resolve() in (Path(path).resolve() for path in inputs):
        raise BadInput(f"{target}: is an input, which is never overwritten; name another file")
    if target.exists() and not force:
        raise BadInput(f"{target}: exists; `force` overwrites it")
    if target.is_dir():
        raise BadInput(f"{target}: is a folder, not a file")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent}: no such folder")
