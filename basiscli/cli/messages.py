"""Messages of the library in the words of the command line: errors, usage errors, notes on stderr."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import click

from basiscli.cli import streams
from basiscli.errors import BadInput
from basiscli.notes import log


def spoken(message: str) -> str:
    """Return a message of the library in the words of the command line: `freeze_prefix` becomes --freeze-prefix."""
    return re.sub(r"`([a-z]+(?:_[a-z]+)*)`", lambda name: f"--{name[1].replace('_', '-')}", message)


@contextmanager
def usage() -> Iterator[None]:
    """Turn BadInput about inconsistent parameters into a usage error of the command line."""
    try:
        yield
    except BadInput as error:
        raise click.UsageError(spoken(str(error))) from error


class _Printer(logging.Handler):
    """Prints the library's notes on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._once: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "once", False):
            if record.getMessage() in self._once:
                return
            self._once.add(record.getMessage())
        streams.say(f"basiscli: {spoken(record.getMessage())}")


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Print the notes of the library on stderr."""
    printer, level = _Printer(), log.level
    log.addHandler(printer)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(printer)
        log.setLevel(level)
