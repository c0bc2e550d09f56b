"""Damage to files of ours: of bytes, and through HDF5; and everything that readers give of a file, to compare it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np

from basiscli.errors import BadInput
from basiscli.files import activations, digests, hdf5, schema, summary
from basiscli.files.networks import load

PAGE, SECTOR = 4096, 512
# What an attribute becomes that is replaced by a value of another type or range.
STRANGE = (
    -1, 3, 2**62, 0.5, float("nan"), float("inf"), True, "", "x", "{}", "[]", "null", "NaN", "0", '{"a": 1}',
    np.zeros(3), np.zeros((2, 2, 2)), np.array([b"ab", b"c"]), np.bytes_(b"\xff\xfe"), h5py.Empty("f"),
    "{" * 5000, '{"epoch": null, "step": []}', '{"mean": [null], "inverse_deviation": [NaN]}',
)  # fmt: skip
JSON_VALUES = (None, True, -1, 0, 1e300, 2**70, float("nan"), float("inf"), "", "../x", [], [[]], {}, {"a": 1}, "x" * 9)


def outcome(path: Path) -> tuple | None:
    """Return everything that readers give of a file, to be compared; None if they refuse it with one line on it."""
    try:
        return _read(path)
    except BadInput as error:
        assert path.name in str(error) and "\n" not in str(error) and len(str(error)) < 2000, str(error)
        return None


def _read(path: Path) -> tuple:
    shown = {name: value for name, value in summary.summarise(str(path)).items() if name not in ("path", "bytes")}
    parts: list = [json.dumps(shown, default=str)]
    summary.screen(summary.summarise(str(path)))
    if shown["kind"] == hdf5.NETWORK:
        loaded = load(path)
        parts.append(_plain(asdict(loaded.file)))
    if shown["kind"] == hdf5.ACTIVATIONS or "activations/test/hidden1" in shown["arrays"]:
        source = activations.open_source(str(path))
        for layer in source.layers:
            parts += [values[layer].tobytes() for values in source.chunks([layer], 100)]
    if shown["kind"] == hdf5.RESULTS:
        with hdf5.reading(path) as file:
            parts.append(_plain(file.arrays("/")))
            parts.append(_plain(asdict(schema.read(schema.ResultAttributes, file))))
    return tuple(parts)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return tuple((name, _plain(member)) for name, member in value.items())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    return repr(value)


def reseal(path: Path) -> None:
    """Give a file, whatever it holds, the digests of its bytes, as a hostile or a faulty writer would."""
    content = path.read_bytes()
    sealed = digests.open_sealed(path)
    if sealed:
        content = content[: sealed.seek(0, 2)]
        sealed.close()
    path.write_bytes(content)
    with path.open("r+b", buffering=0) as file:
        digests.seal(file)


def bytewise(rng: np.random.Generator, content: bytes, sibling: bytes) -> tuple[str, bytes]:
    """Return a kind of damage and the damaged bytes of a file. `sibling`: the bytes of a file of the same kind."""
    damaged = bytearray(content)
    limit = int(rng.choice([2048, len(content)]))  # damage to the first structures hurts most
    place = int(rng.integers(limit))
    page = place // PAGE * PAGE
    sector = place // SECTOR * SECTOR
    match kind := str(rng.choice(["bit", "byte", "bytes", "page", "sector", "splice", "cut", "longer", "tail"])):
        case "bit":
            damaged[place] ^= 1 << int(rng.integers(8))
        case "byte":
            damaged[place] = int(rng.integers(256))
        case "bytes":
            for at in rng.integers(limit, size=int(rng.integers(2, 9))):
                damaged[at] = int(rng.integers(256))
        case "page":
            damaged[page : page + PAGE] = bytes(len(damaged[page : page + PAGE]))
        case "sector":
            damaged[sector : sector + SECTOR] = bytes(len(damaged[sector : sector + SECTOR]))
        case "splice":
            damaged[page : page + PAGE] = sibling[page : page + PAGE]
        case "cut":
            del damaged[int(rng.integers(len(content))) :]
        case "longer":
            damaged += rng.bytes(int(rng.integers(1, 2 * PAGE)))
        case "tail":
            tail = int(rng.integers(1, 200))
            damaged[-tail:] = bytes(tail)
    return kind, bytes(damaged)


def structured(rng: np.random.Generator, path: Path, sibling: Path) -> str:
    """Damage a file through HDF5 and return the kind of damage, with the name of what was damaged."""
    with h5py.File(path, "a") as file, h5py.File(sibling) as other:
        arrays = [name for name in _names(file) if isinstance(file[name], h5py.Dataset)]
        kind = str(rng.choice([*ATTRIBUTES, *ARRAYS] if arrays else list(ATTRIBUTES)))
        if kind in ATTRIBUTES:
            place = rng.choice(["/", *arrays[:3]]) if arrays else "/"
            attributes = file[place].attrs if len(file[place].attrs) else file.attrs
            name = str(rng.choice(list(attributes)))
            ATTRIBUTES[kind](rng, attributes, name)
        else:
            name = str(rng.choice(arrays))
            ARRAYS[kind](rng, file, name, other)
    return f"{kind} {name}"


def _names(group: h5py.Group) -> list[str]:
    names: list[str] = []
    group.visit(names.append)
    return names


def _retyped(rng, attributes, name) -> None:
    value = STRANGE[rng.integers(len(STRANGE))]
    del attributes[name]
    attributes[name] = value


def _renamed_attribute(rng, attributes, name) -> None:
    attributes[name[:-1] + chr(ord(name[-1]) ^ 1)] = attributes[name]
    del attributes[name]


def _one_letter(rng, attributes, name) -> None:
    value = attributes[name]
    if not isinstance(value, bytes) or not value:
        attributes[name] = value + 1
        return
    letters = bytearray(value)
    letters[rng.integers(len(letters))] ^= 1 << int(rng.integers(7))
    attributes[name] = np.bytes_(bytes(letters))


def _one_value(rng, attributes, name) -> None:
    """Replace a value somewhere in a JSON object."""
    try:
        tree = json.loads(attributes[name])
    except (TypeError, ValueError):
        return _retyped(rng, attributes, name)
    node = tree
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.3:
            node[key] = JSON_VALUES[rng.integers(len(JSON_VALUES))]
            break
        node = node[key]
    attributes[name] = np.bytes_(json.dumps(tree).encode())
    return None


ATTRIBUTES: dict[str, Callable] = {
    "retyped attribute": _retyped,
    "renamed attribute": _renamed_attribute,
    "deleted attribute": lambda rng, attributes, name: attributes.__delitem__(name),
    "letter of attribute": _one_letter,
    "value in attribute": _one_value,
}


def _replaced(file: h5py.File, name: str, values, **options) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, **options)
    file[name].attrs.update(attributes)


def _other_shape(rng, file, name, other) -> None:
    values = file[name][()]
    shapes = [
        values[None],
        values.reshape(-1)[:-1],
        values.reshape((1,) * 20 + values.shape),
        np.concatenate([values] * 2),
    ]
    _replaced(file, name, shapes[rng.integers(len(shapes))])


def _other_type(rng, file, name, other) -> None:
    kinds = ["f2", "f8", "i4", "u1", "c8", "S3", "?"]
    _replaced(file, name, file[name][()].astype(kinds[rng.integers(len(kinds))]))


def _not_finite(rng, file, name, other) -> None:
    values = file[name][()]
    if values.dtype.kind == "f" and values.size:
        values.reshape(-1)[rng.integers(values.size)] = rng.choice([np.nan, np.inf])
    else:
        values = values + 1
    _replaced(file, name, values)


def _from_sibling(rng, file, name, other) -> None:
    """Overwrite a chunk, as it is stored, by that of a sibling."""
    mine, theirs = file[name].id, other[name].id if name in other else None
    if theirs is None or not mine.get_num_chunks() or not theirs.get_num_chunks():
        return _zeroed(rng, file, name, other)
    info = theirs.get_chunk_info(0)
    mine.write_direct_chunk(info.chunk_offset, theirs.read_direct_chunk(info.chunk_offset)[1], info.filter_mask)
    return None


def _zeroed(rng, file, name, other) -> None:
    node = file[name]
    if node.chunks and node.id.get_num_chunks():
        info = node.id.get_chunk_info(int(rng.integers(node.id.get_num_chunks())))
        node.id.write_direct_chunk(info.chunk_offset, bytes(info.size), info.filter_mask)
    else:
        _replaced(file, name, np.zeros_like(node[()]))


def _swapped(rng, file, name, other) -> None:
    names = [n for n in _names(file) if isinstance(file[n], h5py.Dataset)]
    second = names[rng.integers(len(names))]
    file.move(name, "swap-of-names")
    if second != name:
        file.move(second, name)
    file.move("swap-of-names", second)


def _bomb(rng, file, name, other) -> None:
    """Put an array in its place that is small in the file and large in memory."""
    axes = file[name].ndim or 1
    attributes = dict(file[name].attrs)
    del file[name]
    shape = (300_000_000, *(1,) * (axes - 1))
    node = file.create_dataset(name, shape, "f8", chunks=shape, compression="gzip")
    node.id.write_direct_chunk((0,) * axes, bytes(100_000_000 // 2000))
    node.attrs.update(attributes)


def _linked(rng, file, name, other) -> None:
    del file[name]
    links = [h5py.SoftLink("/nowhere"), h5py.SoftLink("/"), h5py.ExternalLink("other.h5", "/x")]
    file[name] = links[rng.integers(len(links))]


ARRAYS: dict[str, Callable] = {
    "renamed array": lambda rng, file, name, other: file.move(name, name + "x"),
    "moved array": lambda rng, file, name, other: file.move(name, f"elsewhere/{name}"),
    "deleted array": lambda rng, file, name, other: file.__delitem__(name),
    "added array": lambda rng, file, name, other: file.create_dataset(f"{name}-more", data=np.ones(3)),
    "other shape": _other_shape,
    "other type": _other_type,
    "not finite": _not_finite,
    "chunk of a sibling": _from_sibling,
    "zeroed chunk": _zeroed,
    "swapped arrays": _swapped,
    "bomb": _bomb,
    "link": _linked,
}
