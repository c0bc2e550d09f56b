"""Records on stdout: one for each result, as a table on a terminal and as JSON lines in a pipe."""

import csv
import json
import math
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import click

from basiscli.cli import streams
from basiscli.cli.help import of_output
from basiscli.errors import printable
from basiscli.names import in_csv

FORMATS = ("table", "json", "csv")
EXIT_BROKEN_PIPE = 128 + 13  # the code that a shell reports for a program that SIGPIPE ended

format_option = of_output(
    "--format",
    "style",
    type=click.Choice(FORMATS),
    help="How to print records.  [default: table on a terminal, json in a pipe]",
)


def emit(
    records: Iterable[Mapping],
    style: str | None = None,
    columns: Sequence[str] | None = None,
    row: Callable[[Mapping], Mapping] = lambda record: record,
    needed: int | None = None,
    words: Callable[[Sequence[Mapping]], Iterable[str]] = lambda records: (),
) -> None:
    """Print records to stdout: JSON and CSV record by record as they come, a table at the end.

    columns: the columns of a table, in order; the first `needed` of them stay on the narrowest terminal. row: makes the
    row of a table from a record; an empty row leaves the record out. words: makes the lines below a table from all
    records. JSON and CSV always have every field. A float that is not finite becomes null in JSON and an empty cell
    elsewhere. When the reader of stdout is gone, the command ends quietly with the exit code of a broken pipe.
    """
    style = style or ("table" if sys.stdout.isatty() else "json")
    try:
        if style == "table":
            _table(list(records), columns, row, needed, words)
        else:
            {"json": _json, "csv": _csv}[style](records)
    except BrokenPipeError:
        streams.abandon_stdout()
        raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from None


def command_line() -> str:
    """Return the command line of this process in the syntax of a shell, without the program's folder, as one line."""
    return printable(shlex.join(["basiscli", *sys.argv[1:]]))


def kept(items: Iterable[Mapping], into: list) -> Iterator[Mapping]:
    """Yield records, and append each of them to a list."""
    for item in items:
        into.append(item)
        yield item


def interval(record: Mapping, field: str, scale: float = 1, digits: int = 3) -> str | None:
    """Return a field with its `_low` and `_high` in brackets, as a cell of a table: 0.031 [0.012, 0.050]."""
    values = [record[f"{field}{end}"] for end in ("", "_low", "_high")]
    # Rounding may leave -0, and + 0 makes it 0.
    value, low, high = (None if x is None else f"{round(scale * x, digits) + 0:.{digits}f}" for x in values)
    return value if low is None else f"{value} [{low}, {high}]"


def _plain(value):
    """Return a value that JSON can hold: a Python number for a numpy scalar, None for a float that is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(records: Iterable[Mapping]) -> None:
    for record in records:
        streams.write(json.dumps({key: _plain(value) for key, value in record.items()}) + "\n")


class _Stdout:
    """stdout as a file for csv."""

    write = staticmethod(streams.write)


def _csv(records: Iterable[Mapping]) -> None:
    writer = None
    for record in records:
        if writer is None:
            writer = csv.DictWriter(_Stdout(), list(record), lineterminator="\n")
            writer.writeheader()
        writer.writerow({key: in_csv(_plain(value)) for key, value in record.items()})


def _table(
    records: Sequence[Mapping],
    columns: Sequence[str] | None,
    row: Callable[[Mapping], Mapping],
    needed: int | None,
    words: Callable[[Sequence[Mapping]], Iterable[str]],
) -> None:
    if not records:
        return
    from basiscli.cli import tables

    rows = [{name: _plain(value) for name, value in made.items()} for made in map(row, records) if made]
    tables.show(rows, columns or list(rows[0]), needed)
    width = shutil.get_terminal_size().columns
    for line in words(records):
        streams.write(textwrap.fill(printable(line), width, subsequent_indent="  ", break_on_hyphens=False) + "\n")
