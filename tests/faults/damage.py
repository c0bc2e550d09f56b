"""Damage to a file: to its bytes, whatever they mean, and to what they mean."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers import damage as helper

Random = np.random.Generator
SECTOR, PAGE = 512, 4096
# How a damage begins that another file of ours might have: another result is right then.
RESEALED = "resealed"
# What replaces a value in JSON.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**30, 0.5, float("nan"), float("inf"), "", "x", "../x", "\x1b[31m", [], [1], [[]], {},
    {"a": 1},
)  # fmt: skip


def damage(path: Path, sibling: Path, rng: Random) -> str:
    """Damage a file, and say how. sibling: a file of the same kind."""
    structured = {".h5": _structure, ".json": _json, ".jsonl": _json}.get(path.suffix)
    if structured and rng.random() < 0.4:
        return structured(path, sibling, rng)
    content, other = path.read_bytes(), sibling.read_bytes()
    damaged, told = content, "nothing"
    while damaged == content:
        way = BYTES[rng.integers(len(BYTES))]
        damaged, told = way(content, other, rng)
    path.write_bytes(damaged)
    return told


def _place(content: bytes, rng: Random, size: int = 1, aligned: int = 1) -> int:
    """Return where damage begins; half of the time where a file of HDF5 describes itself."""
    end = max(1, len(content) - size + 1)
    end = min(end, 2 * PAGE) if rng.random() < 0.3 else end
    return int(rng.integers(end)) // aligned * aligned


def _put(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


def _bits(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    damaged, told = bytearray(content), []
    for _ in range(rng.integers(1, 4)):
        place, bit = _place(content, rng), int(rng.integers(8))
        damaged[place] ^= 1 << bit
        told.append(f"{place}.{bit}")
    return bytes(damaged), f"bits {', '.join(told)} flipped"


def _bytes(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    size = int(rng.integers(1, 17))
    place = _place(content, rng, size)
    return _put(content, place, rng.bytes(size)), f"{size} random bytes at {place}"


def _zeros(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    size = int(rng.choice([8, 64, SECTOR, PAGE]))
    place = _place(content, rng, size, size)
    size = min(size, len(content) - place)
    return _put(content, place, bytes(size)), f"{size} zeros at {place}"


def _splice(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    size = int(rng.choice([64, SECTOR, PAGE]))
    place = _place(content, rng, size, size)
    source = place if rng.random() < 0.7 else _place(other, rng, size, size)
    new = other[source : source + min(size, len(content) - place)]
    return _put(content, place, new), f"{len(new)} bytes at {place} from {source} of a sibling"


def _swap(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    size = int(rng.choice([64, SECTOR]))
    one, two = _place(content, rng, size, size), _place(content, rng, size, size)
    first, second = content[one : one + size], content[two : two + size]
    damaged = _put(_put(content, one, second), two, first)[: len(content)]
    return damaged, f"{size} bytes at {one} and {two} swapped"


def _shift(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    place, size = _place(content, rng), int(rng.integers(1, 65))
    if rng.random() < 0.5:
        return content[:place] + content[place + size :], f"{size} bytes at {place} removed"
    return content[:place] + rng.bytes(size) + content[place:], f"{size} bytes inserted at {place}"


def _cut(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    size = int(rng.integers(len(content)))
    size = size // SECTOR * SECTOR if rng.random() < 0.5 else size
    tail = bytes(len(content) - size) if rng.random() < 0.3 else b""
    return content[:size] + tail, f"cut after {size} bytes" + (" and filled with zeros" if tail else "")


def _text(content: bytes, other: bytes, rng: Random) -> tuple[bytes, str]:
    """Change a digit or a letter of a text within the file, so that it stays a text."""
    runs = [found for found in re.finditer(rb"[ -~]{12,}", content)]
    if not runs:
        return _bits(content, other, rng)
    run = runs[rng.integers(len(runs))]
    place = int(rng.integers(run.start(), run.end()))
    letter = content[place : place + 1]
    letters = b"0123456789" if letter.isdigit() else b"abcdefghijklmnopqrstuvwxyz,:_ "
    new = letters[rng.integers(len(letters)) :][:1]
    return _put(content, place, new), f"{letter!r} at {place} became {new!r}"


BYTES: tuple[Callable[[bytes, bytes, Random], tuple[bytes, str]], ...] = (
    _bits, _bits, _bytes, _zeros, _zeros, _splice, _swap, _shift, _cut, _text, _text,
)  # fmt: skip


def _json(path: Path, sibling: Path, rng: Random) -> str:
    """Change a value of a JSON file, or of a line of one."""
    text = path.read_text()
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    k = int(rng.integers(len(lines)))
    changed, told = _changed(json.loads(lines[k]), rng)
    lines[k] = json.dumps(changed, indent=None if path.suffix == ".jsonl" else 1)
    path.write_text("\n".join(lines) + ("\n" if text.endswith("\n") else ""))
    return told


def _changed(value: Any, rng: Random, path: str = "") -> tuple[Any, str]:
    """Return a value of JSON with a change somewhere inside it, and where."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = list(value)[rng.integers(len(value))]
        way = rng.random()
        if way < 0.08:
            return {name: one for name, one in value.items() if name != key}, f"{path}/{key} removed"
        if way < 0.15:
            return {f"{name}x" if name == key else name: one for name, one in value.items()}, f"{path}/{key} renamed"
        inner, told = _changed(value[key], rng, f"{path}/{key}")
        return value | {key: inner}, told
    if isinstance(value, list) and value and rng.random() < 0.9:
        k = int(rng.integers(len(value)))
        inner, told = _changed(value[k], rng, f"{path}/{k}")
        return [*value[:k], inner, *value[k + 1 :]], told
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        new = value + 1 if rng.random() < 0.5 else value * 1.1
        return new, f"{path} {value!r} became {new!r}"
    new = value
    while repr(new) == repr(value):
        new = STRANGE[rng.integers(len(STRANGE))]
    return new, f"{path} {str(value)[:30]!r} became {new!r}"


def _structure(path: Path, sibling: Path, rng: Random) -> str:
    """Change what an HDF5 file holds, through HDF5; some get digests of the change, as from a hostile writer."""
    told = helper.structured(rng, path, sibling)
    if rng.random() < 0.3:
        helper.reseal(path)
        return f"{RESEALED}, {told}"
    return told
