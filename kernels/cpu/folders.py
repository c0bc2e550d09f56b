"""The folder in which compiled kernels are kept: the first of some that works."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from multiprocessing import parent_process
from pathlib import Path

from basiscli.notes import log

# What is written to find out whether a folder takes files.
PROBE = bytes(1 << 16)
_noted: list[str] = []


def choose(wanted: str) -> tuple[str | None, str | None]:
    """Return the folder for compiled kernels, None if there is none; and what is wrong with the first choice, if so.

    wanted: the folder that the user named, empty for none. The next choices are the user's cache folder, and one of the
    user's in the folder for temporary files. A note says once if the first choice fails.
    """
    trouble = None
    for folder, named in _candidates(wanted):
        fault = fault_of(folder, named)
        if fault is None:
            if trouble:
                _note(f"compiled kernels are kept in {folder} ({trouble})")
            return str(folder), trouble
        trouble = trouble or f"{folder}: {fault}"
    note_unkept(str(trouble))
    return None, trouble


def fault_of(folder: Path, named: bool = False) -> str | None:
    """Return why a folder cannot keep compiled kernels, None if it can. The folder is made.

    Kernels are code: whoever can write them runs programs as the user. So a folder that the user has not named must
    belong to the user, and so must the folder in which it is made, for otherwise root would leave its files in the home
    of another user.
    """
    if not folder.is_absolute():
        return "there is no home folder"
    try:
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not named and above.stat().st_uid != os.geteuid() and above != _temporary():
            return f"{above} belongs to another user"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(PROBE)
    except OSError as error:
        return error.strerror or str(error)
    return None


def note_unkept(reason: str) -> None:
    """Say once that compiled kernels are not kept."""
    _note(f"compiled kernels cannot be kept ({reason}); each command compiles them, about half a minute")


def _candidates(wanted: str) -> Iterator[tuple[Path, bool]]:
    """Yield folders, and whether the user named them.

    numba notices a change in the file of a function, but not in what that file imports (micro.py). So our own folders
    are of exactly these sources.
    """
    import platformdirs

    if wanted:
        yield Path(wanted).absolute(), True
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    inside = Path("kernels", digest.hexdigest()[:16])
    yield Path(platformdirs.user_cache_dir("basiscli"), inside), False
    if temporary := _temporary():
        yield temporary / f"basiscli-{os.geteuid()}" / inside, False


def _temporary() -> Path | None:
    """Return the folder for temporary files, None if none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return None


def _note(text: str) -> None:
    """Say a line once in this program; the processes that it starts say nothing."""
    if not _noted and parent_process() is None:
        log.warning(text)
    _noted.append(text)
