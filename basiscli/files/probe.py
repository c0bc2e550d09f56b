"""Look at a file of unknown origin in a child process first: damage can hang or crash libhdf5."""

import faulthandler
import os
import select
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress

# A look reads no arrays: a healthy file takes milliseconds.
SECONDS = 20.0


def trouble(look: Callable[[], object], seconds: float | None = None) -> str | None:
    """Return the reason why `look` never returns, None if it returns or raises. It runs in a copy of this process.

    The copy is killed after `seconds` (None: SECONDS). It shares no memory with this process, so `look` must be a
    reader without results.
    """
    limit = SECONDS if seconds is None else seconds
    read_end, write_end = os.pipe()
    waiting = select.poll()
    waiting.register(read_end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: the copy calls nothing but libhdf5
        child = os.fork()
    if not child:
        _look_and_exit(look)
    os.close(write_end)
    try:
        ended = bool(waiting.poll(1000 * limit))  # the pipe ends with the child
    finally:
        os.close(read_end)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not ended:
        return f"libhdf5 does not come to an end within {limit:g} s"
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL
    return "libhdf5 crashes on it" if killed else None


def _look_and_exit(look: Callable[[], object]) -> None:
    try:
        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        look()
    finally:
        os._exit(0)  # without the ends of this process: its buffers and temporary files are not the child's
