"""Records as a table on a terminal. No text is cut: on a narrow terminal, records stand one below the other."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from basiscli.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

# Columns of files, or of tuples of files. The folder that all files have in common stands once, above the table.
FILES = ("pair", "a", "b", "path", "network")
# Texts longer than this may be broken into lines. Numbers and shorter texts never are.
BREAKS = 24
# Lines of a cell: a column so narrow that a text would take more is as good as no column.
LINES = 6


def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], needed: int | None = None) -> None:
    """Print rows under the titles of their columns.

    If the terminal is too narrow, columns are left out from the end, but the first `needed` stay (None: all). If these
    do not fit either, each row becomes a block of lines, a title and a cell on each, with all columns.
    """
    from rich.console import Console

    console = Console()
    above = _common_folder(rows, columns)
    cells = [{column: _shortened(row.get(column), column, above) for column in columns} for row in rows]
    for count in range(len(columns), (needed or len(columns)) - 1, -1):
        table = _table(rows, cells, columns[:count])
        # Spaces: on both sides of a cell, between columns, and at both ends of a row.
        if sum((column.min_width or 0) + 3 for column in table.columns) + 1 <= console.width:
            if above:
                print(f"in {printable(above)}:")
            console.print(table)
            return
    print(_listed(cells, columns, above, console.width))


def cell(value: object) -> str:
    """Return a value as text: four digits after the point, `-` for none, escapes for control characters."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return " ".join(map(cell, value))
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


def _common_folder(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Return the folder that all files in the rows have in common, with a slash, or an empty text.

    A name without a slash is a file in the current folder, unless it has blanks, as `mean of 10 pairs` has.
    """
    values = [row.get(column) for row in rows for column in columns if column in FILES]
    names = [str(name) for value in values for name in (value if isinstance(value, tuple) else (value,)) if name]
    paths = [name for name in names if "/" in name or " " not in name]
    folder = os.path.commonpath(map(os.path.dirname, paths)) if len({*map(os.path.isabs, paths)}) == 1 else ""
    return f"{folder}/" if folder.strip("/") else ""


def _shortened(value: object, column: str, folder: str) -> str:
    """Return a cell as text. Files are written without their common folder."""
    if column not in FILES or value is None:
        return cell(value)
    parts = value if isinstance(value, tuple) else (value,)
    return " ".join(cell(str(part).removeprefix(folder)) for part in parts)


def _table(rows: Sequence[Mapping[str, object]], cells: list[dict[str, str]], columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        words = column.replace("_", " ").split()
        widest = max(len(row[column]) for row in cells)
        number = all(isinstance(row.get(column), int | float | None) for row in rows)
        breaks = not number and widest > BREAKS
        longest = max((len(word) for row in cells for word in row[column].split()), default=0)
        least = max(min(longest, BREAKS), widest // LINES)
        width = max(*map(len, words), least if breaks else widest)
        title = "\n".join(textwrap.wrap(" ".join(words), width))
        table.add_column(
            Text(title), justify="right" if number else "left", min_width=width, no_wrap=not breaks, overflow="fold"
        )
    for row in cells:
        table.add_row(*(Text(row[column]) for column in columns))
    return table


def _listed(cells: list[dict[str, str]], columns: Sequence[str], above: str, width: int) -> str:
    titles = {column: column.replace("_", " ") for column in columns}
    indent = max(map(len, titles.values())) + 2
    blocks = []
    for row in cells:
        lines = [
            textwrap.fill(
                row[column], max(width, indent + BREAKS), initial_indent=f"{titles[column]:<{indent}}",
                subsequent_indent=" " * indent, break_on_hyphens=False,
            )
            for column in columns
        ]  # fmt: skip
        blocks.append("\n".join(lines))
    return (f"in {printable(above)}:\n\n" if above else "") + "\n\n".join(blocks)
