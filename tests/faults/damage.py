"""Damage to a file: to its bytes, whatever they mean, and to what they mean."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Random = np.random.Generator
SECTOR, PAGE = 512, 4096
# What replaces a value in JSON, and an attribute.
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 10**30, 0.5, float("nan"), float("inf"), "", "x", "../x", "\x1b[31m", [], [1], [[]], {}, {"a": 1},
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
    """Change what an HDF5 file holds, through h5py: its checksums fit afterwards."""
    with h5py.File(path, "r+") as file, h5py.File(sibling) as other:
        told = None
        while told is None:
            told = STRUCTURE[rng.integers(len(STRUCTURE))](file, other, rng)
    return told


def _nodes(file: h5py.File, kind: type = object) -> list[Any]:
    found: list[Any] = [file]
    file.visititems(lambda name, node: found.append(node))
    return [node for node in found if isinstance(node, kind)]


def _one(found: list[Any], rng: Random) -> Any:
    return found[rng.integers(len(found))] if found else None


def _attribute(file: h5py.File, rng: Random) -> tuple[Any, str]:
    """Return a node and the name of one of its attributes, mostly of the file itself."""
    having = [node for node in _nodes(file) if len(node.attrs)]
    if not having:
        return None, ""
    node = having[0] if rng.random() < 0.7 else _one(having, rng)
    return node, list(node.attrs)[rng.integers(len(node.attrs))]


def _json_attribute(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    node, name = _attribute(file, rng)
    try:
        value = json.loads(node.attrs[name])
    except (TypeError, ValueError, AttributeError):
        return None
    changed, told = _changed(value, rng)
    node.attrs[name] = json.dumps(changed)
    return f"attribute {name}: {told}"


def _other_attribute(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    node, name = _attribute(file, rng)
    if node is None:
        return None
    values = (*STRANGE, np.arange(3), np.zeros((2, 2)), h5py.Empty("f"), np.bytes_(b"\xff\xfe"), "9" * 60000, b"x")
    new = _one(list(values), rng)
    if new is None or isinstance(new, dict | list):
        new = json.dumps(new)
    if isinstance(new, int) and not -(2**63) <= new < 2**63:
        new = float(new)
    del node.attrs[name]
    node.attrs[name] = new
    return f"attribute {name} became {str(new)[:20]!r} of {type(new).__name__}"


def _no_attribute(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    node, name = _attribute(file, rng)
    if node is None:
        return None
    if rng.random() < 0.5:
        value = node.attrs[name]
        node.attrs[f"{name}x"] = value
    del node.attrs[name]
    return f"attribute {name} removed or renamed"


def _sibling_attribute(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    names = [name for name in file.attrs if name in other.attrs and str(file.attrs[name]) != str(other.attrs[name])]
    name = _one(names, rng)
    if name:
        file.attrs[name] = other.attrs[name]
    return name and f"attribute {name} of a sibling"


def _value(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    array = _one([node for node in _nodes(file, h5py.Dataset) if node.size], rng)
    if array is None:
        return None
    values = array[()]
    place = tuple(int(rng.integers(side)) for side in values.shape)
    old = values[place]
    new = _one([old + 1, old * 2, 0 * old, np.nan, -1], rng)
    values[place] = new if np.isfinite(new) or values.dtype.kind == "f" else 0
    if np.array_equal(values[place], old):
        return None
    array[...] = values
    return f"{array.name} at {place}: {old} became {new}"


def _sibling_array(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    array = _one([node for node in _nodes(file, h5py.Dataset) if node.size and node.name in other], rng)
    if array is None or other[array.name].shape != array.shape or np.array_equal(array[()], other[array.name][()]):
        return None
    array[...] = other[array.name][()]
    return f"{array.name} of a sibling"


def _shape(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    array = _one(_nodes(file, h5py.Dataset), rng)
    if array is None:
        return None
    name, values = array.name, array[()]
    ways: list[Callable[[], Any]] = [
        lambda: values[..., :-1] if values.ndim else values[None],
        lambda: values[None],
        lambda: values.astype("f8" if values.dtype != np.dtype("f8") else "f4"),
        lambda: values.astype("i4"),
        lambda: np.concatenate([np.atleast_1d(values)] * 2),
        lambda: np.zeros((1,) * 20, "f4"),
        lambda: np.zeros(0, "f4"),
        lambda: "text",
        lambda: values.astype(np.complex64),
    ]
    new = _one(ways, rng)()
    del file[name]
    file[name] = new
    return f"{name} became {getattr(new, 'dtype', 'text')} {getattr(new, 'shape', '')}"


def _members(file: h5py.File, other: h5py.File, rng: Random) -> str | None:
    node = _one(_nodes(file)[1:], rng)
    if node is None:
        return None
    name, way = node.name, int(rng.integers(6))
    if way == 0:
        del file[name]
    elif way == 1:
        file.move(name, f"{name}x")
    elif way == 2:
        file[f"{name}-more"] = np.ones((4, 3), "f")
    elif way == 3:
        del file[name]
        file[name] = h5py.SoftLink("/")
    elif way == 4:
        del file[name]
        file[name] = h5py.ExternalLink("b.h5", name)
    else:
        del file[name]
        file.create_dataset(name, (1 << 40, 8), "f4", chunks=(1024, 8))
    told = ("removed", "renamed", "with a neighbour", "a link", "a link to another file", "of 32 TB")[way]
    return f"{name} {told}"


STRUCTURE: tuple[Callable[[h5py.File, h5py.File, Random], str | None], ...] = (
    _json_attribute, _json_attribute, _other_attribute, _no_attribute, _sibling_attribute, _value, _sibling_array,
    _shape, _members,
)  # fmt: skip
