"""Notes to the user while the library works: the logger `basiscli`.

`info` says how far the work has come, `warning` what the user did not ask for. Both are one line. The command line
prints all of them on stderr; in a program, `logging.getLogger("basiscli")` shows, collects or silences them.
"""

import logging

log = logging.getLogger("basiscli")
# `extra` of a note that a command prints once, however often the reason comes up.
ONCE = {"once": True}
