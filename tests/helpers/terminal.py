"""A terminal to run commands in, the text that stands on it afterwards, and samples of such text."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

# A control sequence, a control character, or text.
TOKENS = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|\x1b.?")


def in_terminal(script: str, folder: Path, columns: int = 80, **variables: str) -> tuple[int, str]:
    """Run a script in bash in a terminal so many columns wide; return its exit status and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**kept, "PATH": path, "TERM": "xterm", **variables},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):  # Linux says "input/output error" once nobody writes any more
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    return process.wait(), written.decode()


def seen(written: str) -> str:
    """Return what a reader sees once all is written: lines that were erased or written over are gone."""
    lines, row, column = [""], 0, 0
    for arguments, letter, control, text in TOKENS.findall(written):
        if control == "\r" or letter == "G":
            column = 0
        elif control == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(0, row - int(arguments or 1))
        elif letter == "K":
            lines[row] = "" if arguments == "2" else lines[row][:column]
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in lines)


def sample_pattern(sample: str) -> str:
    """Return a pattern for all texts of the shape of a sample of output.

    A line `…` stands for any lines, and `…` in a word for any letters. The titles of a table are the same word by word,
    and other lines have the same first word; numbers may differ.
    """
    lines = sample.splitlines()
    titles = set()
    for rule in (k for k, line in enumerate(lines) if RULE.fullmatch(line)):
        while rule and lines[rule - 1].strip() not in ("", "…"):
            rule -= 1
            titles.add(rule)
    parts = [_line(line, k in titles) for k, line in enumerate(lines) if line.strip()]
    return "(?m)^" + "".join(parts)


RULE = re.compile(r"\s*─+\s*")


def _line(line: str, title: bool) -> str:
    if line.strip() == "…":
        return r"(?:.*\n)*?"
    if RULE.fullmatch(line):
        return r"\s*─+\s*\n"
    words = [_word(word) for word in line.split()]
    return r"[ \n]*" + (" +".join(words) if title else words[0] + r"(?!\S).*") + r" *\n"


def _word(word: str) -> str:
    """Return a pattern for a word: other decimals may stand in it, and a whole number for one that is the word."""
    if word.lstrip("-").isdecimal():
        return r"-?\d+"
    parts = re.split(r"-?\d+\.\d+", word)
    return r"-?\d+\.\d+".join(map(re.escape, parts)).replace("…", r"\S*")
