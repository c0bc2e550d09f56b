"""How far a study has come: on a terminal a live list of the running steps, with what each says of itself."""

import logging
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from basiscli.errors import printable
from basiscli.notes import log
from basiscli.study.steps import RUNNING, Step, said, seconds_left, status

# Columns between the cells of a row; the least room for what a step says.
MARGINS, LEAST = 6, 20


class Progress(AbstractContextManager):
    """Shows the steps that run and the remaining time; use as a context manager.

    `outcomes`, by name, has the steps that ended; whoever runs them fills it. slots: how many steps run at once, None
    if nobody knows.
    """

    def __init__(self, folder: Path, steps: Sequence[Step], slots: int | None):
        self._folder, self._steps, self._slots = folder, steps, slots
        self.outcomes: dict[str, dict] = {}
        self._live: Any = None
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True), get_renderable=self._table, refresh_per_second=1, transient=True
            )

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()

    def left(self) -> str:
        """Return the remaining time in words after a comma, or an empty text while it is unknown."""
        seconds = seconds_left(self._steps, self.outcomes, self._slots) if self._slots else None
        if not seconds:
            return ""
        minutes, seconds = divmod(round(seconds), 60)
        return f", about {minutes} min {seconds} s left" if minutes else f", about {seconds} s left"

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the running steps: name, seconds so far, and the last line that the step said."""
        states = ((step, status(self._folder, step)) for step in self._steps if step.name not in self.outcomes)
        running = [(step, state) for step, state in states if state["status"] == RUNNING]
        return [
            (step.name, f"{time.time() - state['began']:.0f} s", said(self._folder, step)) for step, state in running
        ]

    def _table(self):
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, title=f"{len(self.outcomes)} of {len(self._steps)} steps done{self.left()}")
        rows = self.rows()
        for k, column in enumerate(("running", "for")):
            width = max(map(len, (column, *(row[k] for row in rows))))
            table.add_column(column, no_wrap=True, min_width=width)
        table.add_column("says")
        room = shutil.get_terminal_size().columns - sum(column.min_width or 0 for column in table.columns) - MARGINS
        for name, seconds, says in rows:
            table.add_row(Text(name), Text(seconds), Text(_cut(printable(says), max(room, LEAST))))
        return table


def _cut(text: str, room: int) -> str:
    """Return the beginning and the end of a text that is too long: which epoch it is, and how long the rest takes."""
    return text if len(text) <= room else f"{text[: room // 2 - 1]} … {text[len(text) - (room - room // 2 - 2) :]}"
