"""stdin, stdout and stderr: names of any bytes pass through, and a closed or full one loses no work."""

import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from basiscli.errors import BadInput, printable

BYTE_ORDER_MARK = "\ufeff"


def prepare() -> None:
    """Make the three streams usable.

    A closed one becomes the null device: otherwise the next file that is opened takes its number, and messages go into
    that file. File names that are not UTF-8 are read and written as they are.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            _open_null(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):  # a program may have its own streams
            every_name = stream is sys.stdin or stream.encoding.lower() == "utf-8"
            stream.reconfigure(errors="surrogateescape" if every_name else "backslashreplace")


def say(text: str) -> None:
    """Print a line on stderr, foreign text in it escaped. A stderr that nobody reads is no reason to lose work."""
    with suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def write(text: str) -> None:
    """Write a text to stdout. Raises BadInput if that fails, and BrokenPipeError if nobody reads it any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadInput(f"stdout: {error.strerror}") from error


def close() -> None:
    """Flush stdout. If it fails, nothing is written any more, so that the end of the program is quiet."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        abandon_stdout()


def abandon_stdout() -> None:
    """Redirect stdout to the null device when its reader is gone (`| head`), so that the flush at exit succeeds."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_lines(lines: Iterable[str]) -> Iterator[str | dict]:
    """Yield the content of each line of a pipe: a record, or the plain text of a path.

    A line is a path as it stands, or without the blanks around it where only that one exists. Raises BadInput for
    what is no text.
    """
    for number, line in enumerate(lines):
        text = line.rstrip("\r\n")
        text = text.removeprefix(BYTE_ORDER_MARK) if not number else text
        if "\0" in text:
            raise BadInput("stdin: holds bytes, not lines of paths or records; name a binary file as an argument")
        record = _record(text)
        if record is not None:
            yield record
        elif text.strip():
            yield text if Path(text).exists() else text.strip()


def _record(text: str) -> dict | None:
    """Return the record that a line holds, None if it is a path."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:  # a file may be called {x}.h5
        return None
    return value if isinstance(value, dict) else None


def _open_null(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
