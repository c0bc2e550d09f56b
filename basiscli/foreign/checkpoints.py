"""State dicts in files: safetensors, .npz, and PyTorch's own where PyTorch is installed. Nothing is unpickled here.

What a file is follows from its first bytes, not from its name.
"""

import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from basiscli.device import memory
from basiscli.errors import BadInput
from basiscli.files import arrays, kinds
from basiscli.files.hdf5 import reading
from basiscli.names import matches, natural

# The types that weights have. Everything becomes float32.
FLOATS = ("float16", "bfloat16", "float32", "float64")
# The names of safetensors for them, as numpy reads the bytes; bfloat16 is the upper half of a float32.
SAFETENSORS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
# Where training scripts keep the state dict in what they save.
INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
# Wrappers put these before every name.
PREFIXES = ("module.", "_orig_mod.")
# Where safetensors of an export say how images are prepared.
PREPROCESSING = kinds.EXPORTED
COUNTER = "num_batches_tracked"
CONVERSION = (
    "where PyTorch is installed, two lines make a file that can be read: "
    "state = torch.load(PATH, map_location='cpu', weights_only=True); "
    "safetensors.torch.save_file(state, 'net.safetensors')"
)
# A file and the arrays made of it take so many times its size while it is read.
COPIES = 3
LISTED = 5
# No network that is known has so many tensors.
MOST = 20_000
GIGA = 1e9
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, IndexError, RuntimeError, NotImplementedError, MemoryError,
    OverflowError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """An array of a checkpoint: its shape, the name of its type, and a function that reads its values."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def read_checkpoint(path: str, ignore: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without wrappers' prefixes, BatchNorm's counters, and `ignore`d ones.

    ignore: globs; `*` matches across dots. Raises BadInput for a file that is missing, damaged, too large for the
    memory or of another kind, for names that cannot be, and for a glob that matches nothing.
    """
    if not Path(path).is_file():
        raise BadInput(f"{path}: {'is a folder, not a file' if Path(path).is_dir() else 'no such file'}")
    try:
        size, free = Path(path).stat().st_size, memory.available()
        if COPIES * size > free:
            raise BadInput(f"{path}: {size / GIGA:.1f} GB take three times as much to read; {free / GIGA:.1f} are free")
        tensors = _reader(path)(path)
    except BadInput:
        raise
    except _DAMAGE as error:
        raise BadInput(f"{path}: is damaged ({_line(error)}); write the checkpoint anew") from error
    if len(tensors) > MOST:
        raise BadInput(f"{path}: holds {len(tensors):,} tensors, {listed(sorted(tensors))}; no network has so many")
    for name in tensors:
        if not name or "/" in name or ".." in name or not name.isprintable():
            raise BadInput(f"{path}: a tensor has the name {name[:80]!r}, which no PyTorch module gives; rename it")
    named = _without_prefixes({name: tensors[name] for name in sorted(tensors, key=natural)})
    return _without(path, named, ignore)


def preprocessing_in(path: str) -> dict[str, Any]:
    """Return how images are prepared, as an export of basiscli notes it; empty for other files."""
    reader, noted = _reader(path), ""
    if reader is _safetensors:
        from safetensors import safe_open

        with safe_open(path, framework="np") as file:
            noted = (file.metadata() or {}).get(PREPROCESSING, "")
    elif reader is _npz:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment.decode(errors="replace")
        noted = comment.removeprefix(PREPROCESSING) if comment.startswith(PREPROCESSING) else ""
    if not noted:
        return {}
    try:
        return dict(json.loads(noted))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: its note {PREPROCESSING} is damaged; say `mean`, `std` and `divisor`") from error


def values(path: str, name: str, tensor: Tensor) -> np.ndarray:
    """Return the values of a tensor in float32. Raises BadInput for other types, and values that are not finite."""
    if tensor.dtype not in FLOATS:
        raise BadInput(f"{path}: {name} holds {tensor.dtype}; weights are {', '.join(FLOATS)}")
    try:
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(tensor.read(), np.float32)
    except _DAMAGE as error:
        raise BadInput(f"{path}: {name} is damaged ({_line(error)}); write the checkpoint anew") from error
    if array.shape != tensor.shape:
        raise BadInput(f"{path}: {name} is damaged (it has {array.shape}, not {tensor.shape}); write it anew")
    if not np.isfinite(array).all():
        raise BadInput(f"{path}: {name} holds values that are not finite in float32")
    return array


def require_memory(path: str, shapes: Iterable[Sequence[int]]) -> None:
    """Raise BadInput if float32 arrays of these shapes do not fit the free memory."""
    needed, free = 4 * sum(prod(shape) for shape in shapes), memory.available()
    if needed > free:
        raise BadInput(f"{path}: its weights take {needed / GIGA:.1f} GB, {free / GIGA:.1f} GB are free")


def listed(names: Iterable[str]) -> str:
    """Return the first names of a list, and how many there are more."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _reader(path: str) -> Callable[[str], dict[str, Tensor]]:
    """Return the function that reads a file, by its first bytes. Raises BadInput for what holds no state dict."""
    with Path(path).open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF"):
        raise BadInput(f"{path}: {_hdf5(path)}")
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return _pytorch
        if "model.weights.h5" in names:
            raise BadInput(f"{path}: a Keras model; {KERAS}")
        return _npz
    if start.startswith(b"\x80"):  # a pickle, as PyTorch wrote before version 1.6
        return _pytorch
    if start[8:9] != b"{":
        raise BadInput(f"{path}: is no safetensors, .npz or PyTorch file")
    return _safetensors


KERAS = (
    "write what its layers give into a file and correlate that (docs/tutorial.md), or save the weights under PyTorch's "
    "names with numpy.savez (docs/import.md)"
)


def _hdf5(path: str) -> str:
    """Return what an HDF5 file is, and what to do."""
    with reading(path) as file:
        if file.ours:
            return f"is a {file.kind} file of basiscli already; every command takes it"
        keras = any(file.attribute(name) is not None for name in ("keras_version", "layer_names", "model_config"))
        names = list(file.members())
    if keras or any(name.endswith((":0", "vars/0")) for name in names):
        return f"a Keras model; {KERAS}"
    return "an HDF5 file; a checkpoint is a safetensors, .npz or PyTorch file with a state dict (docs/import.md)"


def _npz(path: str) -> dict[str, Tensor]:
    return {
        name: Tensor(array.shape, array.dtype.name, partial(array.read, 0, array.shape[0] if array.shape else 1))
        for name, array in arrays.of_numpy(path).items()
    }


def _safetensors(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, deserialize

    try:
        parts = deserialize(Path(path).read_bytes())
    except SafetensorError as error:
        raise BadInput(f"{path}: is damaged ({_line(error)}); write the checkpoint anew") from error
    return {
        name: Tensor(tuple(part["shape"]), SAFETENSORS.get(part["dtype"], part["dtype"]), partial(_from_bytes, part))
        for name, part in parts
    }


def _from_bytes(part: Mapping[str, Any]) -> np.ndarray:
    kind = SAFETENSORS[part["dtype"]]
    if kind == "bfloat16":
        halves = np.frombuffer(part["data"], "<u2").astype("<u4")
        return (halves << 16).view("<f4").reshape(part["shape"])
    return np.frombuffer(part["data"], np.dtype(kind).newbyteorder("<")).reshape(part["shape"])


def _pytorch(path: str) -> dict[str, Tensor]:
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"{path}: a PyTorch file, and PyTorch is not installed here; {CONVERSION}") from error
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises its own errors, and those of pickle
        raise BadInput(
            f"{path}: PyTorch does not read it as weights alone ({type(error).__name__}); "
            "write torch.save(net.state_dict(), PATH) from the program that has the network"
        ) from error
    inside = [loaded[key] for key in INSIDE if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)]
    state = inside[0] if inside else loaded
    if not isinstance(state, dict) or not state:
        raise BadInput(f"{path}: holds {type(state).__name__}, not a state dict; write net.state_dict()")
    others = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise BadInput(f"{path}: {listed(others)}: no tensor; write net.state_dict()")

    def read(value: Any) -> np.ndarray:
        return (value.float() if value.dtype == torch.bfloat16 else value).detach().to_dense().numpy()

    return {
        str(name): Tensor(tuple(value.shape), str(value.dtype).removeprefix("torch."), partial(read, value))
        for name, value in state.items()
    }


def _without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without the prefixes that wrappers put before every name."""
    named = dict(tensors)
    while prefix := next((p for p in PREFIXES if named and all(name.startswith(p) for name in named)), None):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _without(path: str, tensors: Mapping[str, Tensor], ignore: Sequence[str]) -> dict[str, Tensor]:
    for glob in ignore:
        if not any(matches(name, glob) for name in tensors):
            raise BadInput(f"{path}: `ignore` {glob} matches no name; there are {listed(tensors)}")
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] != COUNTER and not any(matches(name, glob) for glob in ignore)
    }


def _line(error: Exception) -> str:
    """Return an error in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
