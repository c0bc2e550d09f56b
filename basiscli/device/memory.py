"""The free memory of the host, and the files that a process may open."""

import os
from pathlib import Path

# The bytes that are assumed where the system does not tell.
ASSUMED = 4 << 30
ASSUMED_RESIDENT = 256 << 20
ASSUMED_FILES = 512
# Files that are opened beside activations: modules, figures, results, pipes of other processes.
SPARE_FILES = 40


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


def resident() -> int:
    """Return the bytes of memory that this process takes, ASSUMED_RESIDENT where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return ASSUMED_RESIDENT
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """Return how many files of activations this process may hold open; SPARE_FILES are left for everything else."""
    try:
        import resource
    except ImportError:  # not on this system
        return ASSUMED_FILES
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ASSUMED_FILES if most == resource.RLIM_INFINITY else max(most - SPARE_FILES, 2)
