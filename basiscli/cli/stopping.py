"""Ctrl-C and SIGTERM: a command ends as after an error, so nothing half written is left, and says how to go on."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from basiscli.notes import log

# Modules in which a signal waits until they are done: libhdf5 crashes if a write through the first one fails, the
# second one removes temporary files, and Python swallows what is raised in the callbacks of the third.
UNDISTURBED = {"basiscli.files.sink", "basiscli.atomic", "weakref"}
_DEFAULTS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

# Signals that came while a file was being finished. A thread sends each again, after a pause, until it is taken.
_waiting: set[int] = set()
_lock = threading.RLock()
PAUSE = 0.01


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. All that handles Ctrl-C handles it, too."""

    number = signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, Terminated on SIGTERM, never while a file is being finished or removed.

    A second SIGTERM ends the process at once. A signal that the process was started to ignore, or handles already,
    stays as it is.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number, default in _DEFAULTS.items() if main and signal.getsignal(number) == default]
    for number in ours:
        signal.signal(number, _stop)
    try:
        try:
            yield
        finally:
            while _waiting:  # after an error, too: a signal that comes later would meet the default handler
                time.sleep(PAUSE)
    finally:
        for number in ours:
            signal.signal(number, _DEFAULTS[number])


def say_how_to_go_on(error: KeyboardInterrupt, go_on: str) -> None:
    """Note that a command was interrupted, unless the library has said how to go on already."""
    if not getattr(error, "told", False):
        log.warning(f"interrupted; {go_on}")


def exit_code(error: BaseException) -> int:
    """Return the exit code of an interruption: 130 after Ctrl-C, 143 after SIGTERM."""
    if isinstance(error, click.Abort):  # click makes it of KeyboardInterrupt
        error = error.__cause__ or error
    return 128 + getattr(error, "number", signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> None:
    with _lock:
        if _is_undisturbed(frame):
            if number not in _waiting:
                _waiting.add(number)
                threading.Thread(target=_send_again, args=(number,), daemon=True).start()
            return
        _waiting.discard(number)
        signal.signal(number, _DEFAULTS[signal.Signals(number)])
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _send_again(number: int) -> None:
    while number in _waiting:
        time.sleep(PAUSE)
        with _lock:  # so that it is not sent once more after it was taken
            if number in _waiting:
                signal.raise_signal(number)


def _is_undisturbed(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_globals.get("__name__") in UNDISTURBED:
            return True
        frame = frame.f_back
    return False
