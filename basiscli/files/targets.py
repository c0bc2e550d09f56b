"""Files that are to be written: what stands in their way is said before any work is done."""

from collections.abc import Iterable
from pathlib import Path

from basiscli.errors import BadInput


def require_new(target: Path, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Raise BadInput if a file cannot be created: it exists and `force` is not set, or its folder is missing.

    Inputs are never overwritten, also with `force`.
    """
    if target.resolve() in (Path(path).resolve() for path in inputs):
        raise BadInput(f"{target}: is an input, which is never overwritten; name another file")
    if target.exists() and not force:
        raise BadInput(f"{target}: exists; `force` overwrites it")
    if target.is_dir():
        raise BadInput(f"{target}: is a folder, not a file")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent}: no such folder")
