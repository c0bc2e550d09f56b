"""How far training has come: drawn on a terminal if notes are wanted."""

import io
import logging
import sys

import pytest

from basiscli.notes import log
from basiscli.training.progress import Progress


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("level, drawn", [(logging.INFO, True), (logging.WARNING, False)])
def test_a_program_that_wants_no_notes_sees_no_display(monkeypatch, level, drawn):
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = log.level
    log.setLevel(level)
    try:
        with Progress(10) as progress:
            progress.note("kernels are compiled")
    finally:
        log.setLevel(before)
    assert (progress._live is not None) == drawn


def test_records_go_into_the_pipe_while_the_display_is_on_the_terminal(monkeypatch):
    screen, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", pipe)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        with Progress(10):
            print("a record")
    finally:
        log.setLevel(before)
    assert pipe.getvalue() == "a record\n" and "record" not in screen.getvalue()
