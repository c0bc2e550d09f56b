"""A network file becomes a state dict with PyTorch's names, and the lines of its module (docs/import.md)."""

import json
import zipfile
from collections.abc import Mapping
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.files import kinds
from basiscli.files.networks import Loaded, load, require_finite
from basiscli.foreign import module_text
from basiscli.foreign.arrays import Axes, exported
from basiscli.foreign.checkpoints import PREPROCESSING
from basiscli.foreign.layouts import LAYOUTS, RESNET, WIDERESNET
from basiscli.foreign.stored import places_of
from basiscli.nn import models
from basiscli.nn.fixed_maps import fixed_maps
from basiscli.nn.graph import Network
from basiscli.nn.ops import convolution, dense, flatten, global_pool, layernorm
from basiscli.nn.ops.node import Node

SEQUENTIAL = "sequential"
EXPORTED = (*LAYOUTS, SEQUENTIAL)
# How the state dict is written, by the ending of the file.
FORMATS = (".safetensors", ".npz")


def export_network(
    path: str, out: Path, layout: str | None = None, module: Path | None = None, force: bool = False
) -> dict:
    """Write the state dict of a network, and the program of its module, and return the record.

    layout: of EXPORTED; None: that of the import, or the usual one of the model. folded and maps count the fixed maps
    of a rotated network that went into weights, and those that became maps of their own. Raises BadInput for networks
    that a layout cannot say, and for files that exist, unless `force`.
    """
    if out.suffix not in FORMATS:
        raise BadInput(f"{out}: a state dict is written as {' or '.join(FORMATS)}")
    kinds.require_target(out, kinds.STATE_DICT, force, [path])
    if module:
        kinds.require_target(module, kinds.MODULE, force, [path])
    loaded = load(path)
    require_finite(loaded)
    network, arrays = folded(loaded.network, {name: values[0] for name, values in loaded.arrays.items()})
    stored = _layout(loaded, layout)
    places = places_of(stored, network)
    _require_whole(loaded, network, stored, places)
    axes = Axes(network, bool(stored.get("centred")))
    tensors = exported(axes, places, arrays)
    for name in stored.get("no_bias", ()):
        if f"{name}.bias" in tensors and not tensors[f"{name}.bias"].any():
            del tensors[f"{name}.bias"]
    preprocessing = loaded.file.imported.get("preprocessing") or _ours(loaded)
    _write(out, tensors, preprocessing)
    if module:
        atomic.write_text(module, module_text.program(axes, places, tensors, preprocessing))
    kept = len(fixed_maps(network))
    return {
        "path": str(out),
        "network": path,
        "layout": stored["name"],
        "tensors": len(tensors),
        "parameters": sum(values.size for values in tensors.values()),
        "folded": len(fixed_maps(loaded.network)) - kept,
        "maps": kept,
        "module": str(module) if module else None,
    }


def folded(network: Network, arrays: Mapping[str, np.ndarray]) -> tuple[Network, dict[str, np.ndarray]]:
    """Return a network with as few fixed maps as possible, and its arrays (without seed axis): it computes the same.

    M x goes into the map that makes x, if nothing else reads x; or into the maps that read M x, if only maps do.
    """
    arrays, places = dict(arrays), dict(network.architecture.get("rotated", {}))
    for node in fixed_maps(network):
        m = arrays[node.paths["w"]].astype(np.float64)
        source = next((other for other in network.nodes if other.name == node.inputs[0]), None)
        readers = [other for other in network.nodes if node.name in other.inputs]
        alone = sum(node.inputs[0] in other.inputs for other in network.nodes) == 1
        if source is not None and _is_map(source) and alone:
            for name in source.weights:
                arrays[source.paths[name]] = _times(arrays[source.paths[name]], m)
        elif readers and all(map(_is_map, readers)) and node.name != network.nodes[-1].name:
            for reader in readers:
                w = arrays[reader.paths["w"]]
                arrays[reader.paths["w"]] = np.matmul(m, w.astype(np.float64)).astype(w.dtype)
        else:
            continue
        del places[node.name.removesuffix("/rotation")], arrays[node.paths["w"]]
    plain = {name: value for name, value in network.architecture.items() if name != "rotated"}
    return models.build(plain | ({"rotated": places} if places else {})), arrays


def _is_map(node: Node) -> bool:
    return node.op in (dense, convolution)


def _times(values: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return values m over the last axis, in the type of the values."""
    return (values.astype(np.float64) @ m).astype(values.dtype)


def _layout(loaded: Loaded, name: str | None) -> dict[str, Any]:
    """Return the layout of an export (`foreign.stored`). Raises BadInput if the network cannot have it."""
    own, model = loaded.file.imported.get("layout"), loaded.network.architecture["model"]
    if own and name in (None, own["name"]):
        return own
    if name is None:
        name = _usual(loaded.network)
    if name == SEQUENTIAL:
        if model in (RESNET, WIDERESNET):
            raise BadInput(f"{loaded.path}: a {model} is no plain stack; choose another `layout`")
        return {"name": SEQUENTIAL, "nodes": _numbered(loaded.network)}
    layout = LAYOUTS[name]
    if model != layout.model:
        raise BadInput(f"{loaded.path}: is a {model}, the layout {name} is of {layout.model}; choose another `layout`")
    for choice, value in layout.choices.items():
        has = loaded.network.architecture.get(choice, signature(models.MODELS[model]).parameters[choice].default)
        either = choice == "shortcut" and value == "A" and "block{n}/shortcut" in layout.names
        if has != value and not either:
            raise BadInput(f"{loaded.path}: has {choice} {has}, the layout {name} has {value}; choose another `layout`")
    return layout.stored()


def _usual(network: Network) -> str:
    architecture = network.architecture
    if architecture["model"] == RESNET:
        return "torchvision" if architecture["shortcut"] == "B" else "cifar"
    if architecture["model"] == WIDERESNET:
        return "wide-biased" if architecture.get("bias") else "wide"
    return SEQUENTIAL


def _numbered(network: Network) -> dict[str, str]:
    """Return the number of each node of a plain stack in nn.Sequential, where a global mean needs a Flatten, too."""
    turned = {node.name for node in fixed_maps(network)}
    numbers, place = {}, 0
    for node in network.nodes:
        if node.name not in turned:
            numbers[node.name] = str(place)
            flattened = any(other.op is flatten and node.name in other.inputs for other in network.nodes)
            place += 2 if node.op is global_pool and not flattened else 1
    return numbers


def _require_whole(loaded: Loaded, network: Network, stored: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise BadInput for nodes that have no name in a layout, and for LayerNorm over the channels of positions."""
    for node in network.nodes:
        if node.op is layernorm and len(node.shape) == 3:
            raise BadInput(f"{loaded.path}: {node.name} is over the channels of a position, as no PyTorch module is")
        if any(weight.axes for weight in node.weights.values()) and node.name not in places:
            raise BadInput(f"{loaded.path}: the layout {stored['name']} has no name for {node.name}; choose another")


def _ours(loaded: Loaded) -> dict[str, Any]:
    """Return how images of a network of ours are prepared, in PyTorch's words, for pixels as they are."""
    inverse = loaded.standard.inverse.astype(np.float64)
    return {"divisor": 1.0, "mean": loaded.standard.mean.tolist(), "std": (1 / inverse).tolist()}


def _write(out: Path, tensors: Mapping[str, np.ndarray], preprocessing: Mapping[str, Any]) -> None:
    noted = json.dumps(preprocessing)
    if out.suffix == ".npz":
        buffer = BytesIO()
        np.savez(buffer, **tensors)  # type: ignore[arg-type]
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = f"{PREPROCESSING} {noted}".encode()
        data = buffer.getvalue()
    else:
        from safetensors.numpy import save

        data = save(dict(tensors), metadata={"format": "pt", PREPROCESSING: noted})
    with atomic.replacing(out) as partial:
        partial.write_bytes(data)
