"""Look at a file of unknown origin in a child process first: damage can hang or crash libhdf5."""

import faulthandler
import os
import select
import signal
import warnings
from collections.abc import Callable
from contextlib import suppress

# A look reads no arrays: a healthy file takes milliseconds. The limit is in seconds of the processor, since a file that
# hangs libhdf5 keeps it busy, and a healthy one on a busy machine does not. A look that waits gets WAITS times as long.
SECONDS, WAITS = 20.0, 10


def trouble(look: Callable[[], object], seconds: float | None = None) -> str | None:
    """Return the reason why `look` never returns, None if it returns or raises. It runs in a copy of this process.

    The copy is killed after `seconds` of computing (None: SECONDS), and after WAITS times as many in all. It shares no
    memory with this process, so `look` must be a reader without results.
    """
    limit = SECONDS if seconds is None else seconds
    read_end, write_end = os.pipe()
    waiting = select.poll()
    waiting.register(read_end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: the copy calls nothing but libhdf5
        child = os.fork()
    if not child:
        _look_and_exit(look, limit)
    os.close(write_end)
    try:
        ended = bool(waiting.poll(1000 * WAITS * limit))  # the pipe ends with the child
    finally:
        os.close(read_end)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    if not ended or killed == signal.SIGPROF:
        return f"libhdf5 does not come to an end within {limit:g} s"
    return "libhdf5 crashes on it" if killed and killed != signal.SIGKILL else None


def _look_and_exit(look: Callable[[], object], seconds: float) -> None:
    try:
        faulthandler.disable()
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGPROF):
            signal.signal(name, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        look()
    finally:
        os._exit(0)  # without the ends of this process: its buffers and temporary files are not the child's
