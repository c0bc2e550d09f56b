"""The kinds of files that commands write, told by their contents: `force` replaces a file of the same kind only."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from basiscli.errors import BadInput
from basiscli.files import hdf5
from basiscli.files.targets import require_new

NETWORK, ACTIVATIONS, FIGURE = "a network", "activations", "a figure"
STATE_DICT, MODULE = "a state dict of basiscli", "a PyTorch module of basiscli"
# What an export writes into a state dict, and the first line of a module.
EXPORTED, MODULE_LINE = "basiscli.preprocessing", '"""Written by basiscli'
REPORT, STUDY_RESULTS = "the report of a study", "the results of a study"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BEGINNING = 4096  # bytes


def results_of(analysis: str) -> str:
    """Return the kind of the files of an analysis, such as `correlate`."""
    return f"results of {analysis}"


def require_target(target: Path, kind: str, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Raise BadInput if a command cannot write a file of this kind: see `require_new`; or it holds another kind.

    An empty file, and a damaged one of basiscli, is replaced by any kind.
    """
    require_new(target, force, inputs)
    if target.exists() and (held := kind_of(target)) not in (None, kind):
        raise BadInput(f"{target}: is {held}, which {kind} never replaces; name another file, or remove this one")


def kind_of(path: Path) -> str | None:
    """Return the kind of a file in words, None for an empty file and for a damaged one of basiscli."""
    if not path.is_file():
        return "a device or a pipe"
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
    if beginning.startswith(_HDF5):
        return _kind_of_hdf5(path)
    if beginning.startswith((b"\x89PNG", b"%PDF-")) or (beginning.startswith(b"<") and b"<svg" in beginning):
        return FIGURE
    if (beginning[8:9] == b"{" and EXPORTED.encode() in beginning) or _comment(path).startswith(EXPORTED.encode()):
        return STATE_DICT
    if beginning.startswith(MODULE_LINE.encode()):
        return MODULE
    if beginning.startswith(b"<!doctype html>") and b": the four claims</title>" in beginning:
        return REPORT
    if beginning.startswith(b'{\n "study":'):
        return STUDY_RESULTS
    return "a file of another kind" if beginning else None


def _comment(path: Path) -> bytes:
    """Return the comment of a zip file, nothing for other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return b""


def _kind_of_hdf5(path: Path) -> str | None:
    try:
        with hdf5.reading(path) as file:
            known = {hdf5.NETWORK: NETWORK, hdf5.ACTIVATIONS: ACTIVATIONS, "arrays": "a file of another program"}
            return known.get(file.kind) or results_of(str(file.attribute("analysis")))
    except BadInput:
        return None
