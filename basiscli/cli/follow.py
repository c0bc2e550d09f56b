"""`python -m basiscli.cli.follow ...`: a command that ends when the process that started it ends.

The command knows it by the end of its stdin.
"""

import os
import signal
import threading
import time

from basiscli.cli.group import main

# The seconds that the command has to save its state and end.
GRACE = 60


def _follow(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGTERM)  # this also ends the workers of a pool; training saves first
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    kept, null = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    threading.Thread(target=_follow, args=(kept,), daemon=True).start()
    main()
