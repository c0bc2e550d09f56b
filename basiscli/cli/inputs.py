"""The input files of a command line: those among its arguments and those on stdin."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from basiscli.cli import streams
from basiscli.errors import BadInput

# The file names of networks that `train --keep` wrote after an epoch.
KEPT = re.compile(r"seed\d+-epoch\d+\.h5")


def paths_from(arguments: Sequence[str], every: bool = False) -> list[str]:
    """Return the files that a command line names. "-" stands for files on stdin: records with `path`, or plain lines.

    A folder stands for its .h5 files, without the files of `train --keep`. A file that is named twice counts once. A
    network that diverged is left out, with a line on stderr. With `every`, nothing is left out. Raises BadInput if no
    file is left, and for a folder without such a file.
    """
    paths: dict[Path, str] = {}
    for argument in arguments:
        for entry in _stdin_entries(every) if argument == "-" else [argument]:
            for path in _inside(entry, every) if Path(entry).is_dir() else [entry]:
                paths.setdefault(Path(path).resolve(), path)
    if not paths:
        raise BadInput("no file was named, on the command line or on stdin")
    return list(paths.values())


def _inside(folder: str, every: bool) -> list[str]:
    paths = sorted(str(path) for path in Path(folder).glob("*.h5") if every or not KEPT.fullmatch(path.name))
    if not paths:
        raise BadInput(f"{folder}: holds no .h5 file")
    return paths


def _stdin_entries(every: bool) -> Iterator[str]:
    for entry in streams.read_lines(sys.stdin):
        if isinstance(entry, str):
            yield entry
        elif not isinstance(entry.get("path"), str):
            raise BadInput(f"stdin: a record without a path: {entry}")
        elif entry.get("status") == "diverged" and not every:
            streams.say(f"basiscli: {entry['path']}: diverged in training, left out")
        else:
            yield entry["path"]
