"""The shim that lets calls of the operating system fail (shim.c): compiled, preloaded, told what to do."""

import ctypes
import errno
import mmap
import os
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "BASISCLI_FAULTS"
COUNT, ONCE, FROM_THEN_ON, SHORT, SIGNAL_BEFORE, SIGNAL_AFTER = range(6)
# count, at, action, argument, fired, call, folder: struct control of shim.c
_LAYOUT = struct.Struct("=5q32s4000s")


@dataclass(frozen=True)
class Fault:
    """What happens at a call: its number from 1, what is done, and the errno or the signal of it."""

    at: int
    action: int
    argument: int = 0

    def __str__(self) -> str:
        if self.action == COUNT:
            return "nothing"
        if self.action in (SIGNAL_BEFORE, SIGNAL_AFTER):
            when = "before" if self.action == SIGNAL_BEFORE else "after"
            return f"{signal.Signals(self.argument).name} {when} call {self.at}"
        if self.action == SHORT:
            return f"call {self.at} moves half of the bytes"
        later = " and all later ones" if self.action == FROM_THEN_ON else ""
        return f"{errno.errorcode[self.argument]} at call {self.at}{later}"


NOTHING = Fault(0, COUNT)


class Control:
    """The file that tells the shim what to do in every process that maps it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _LAYOUT.size)

    def set(self, folder: Path, fault: Fault) -> None:
        """Begin to count the calls below a folder."""
        self._memory[:] = _LAYOUT.pack(0, fault.at, fault.action, fault.argument, 0, b"", os.fsencode(folder))

    @property
    def count(self) -> int:
        """The calls so far."""
        return _LAYOUT.unpack(self._memory)[0]

    @property
    def fired(self) -> str:
        """The name of the call to which something happened, empty if nothing did."""
        values = _LAYOUT.unpack(self._memory)
        return values[5].rstrip(b"\0").decode() if values[4] else ""

    def use(self) -> None:
        """Obey this file in this process, and in all that it starts."""
        os.environ[VARIABLE] = str(self.path)
        ctypes.CDLL(None).faults_use(os.fsencode(self.path))


def compiler() -> str | None:
    """Return the system's C compiler, None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """Compile the shim into a folder."""
    library = folder / "shim.so"
    subprocess.run([str(compiler()), "-shared", "-fPIC", "-O2", str(SOURCE), "-o", str(library), "-ldl"], check=True)
    return library


def loaded() -> bool:
    """Whether this process runs with the shim."""
    return hasattr(ctypes.CDLL(None), "faults_use")
