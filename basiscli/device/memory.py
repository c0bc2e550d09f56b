"""The free memory of the host."""

import os
from pathlib import Path

# The bytes that are assumed where the system does not tell.
ASSUMED = 4 << 30


def available() -> int:
    """Return the bytes that a new array may take without swapping, as the system estimates them."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return ASSUMED
