"""A checkpoint of PyTorch becomes a network file (docs/import.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basiscli.data import Dataset
from basiscli.errors import BadInput
from basiscli.files import kinds
from basiscli.files.datasets import load_dataset, require_fitting
from basiscli.files.networks import DONE, NetworkFile, save_network, versions
from basiscli.foreign import modules as text
from basiscli.foreign.arrays import Axes, imported
from basiscli.foreign.checkpoints import Tensor, preprocessing_in, read_checkpoint
from basiscli.foreign.layouts import LAYOUTS, read_layout
from basiscli.foreign.proof import Probe, prove, read_probe
from basiscli.foreign.recognition import architecture, recognise
from basiscli.foreign.stacks import recognise_stack
from basiscli.foreign.stored import ROTATED, places_of, shown_of
from basiscli.nn import cost, models
from basiscli.nn.graph import Network, predict
from basiscli.notes import log
from basiscli.training.images import Standardisation, probe_batch
from basiscli.training.recipe import Recipe

SEQUENTIAL = "sequential"
# Names for `model`.
KNOWN = (*LAYOUTS, SEQUENTIAL)
# Images of torchvision's networks, and what ToTensor divides pixels by.
IMAGENET_SIDE, PIXELS = 224, 255.0
# Test images whose accuracy is reported.
SHOWN = 1000


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and what a checkpoint does not say.

    model: the layout, None to recognise it; layout: a TOML file with another one; modules: those of a plain stack.
    image: (H, W, C), None to take that of the data set or the probe. mean and std: per channel, of pixels that were
    divided by `divisor` (None: 255 for data sets of uint8 and without data set, else 1). All three None: as the
    checkpoint says if basiscli wrote it, else no mean and a deviation of 1. check: a probe.
    """

    checkpoint: str
    model: str | None = None
    layout: str | None = None
    modules: str | None = None
    activation: str | None = None
    dataset: str | None = None
    image: tuple[int, int, int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    divisor: float | None = None
    ignore: Sequence[str] = ()
    check: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Description:
    """A network as its checkpoint describes it: how it is stored (`foreign.stored`), and its architecture.

    channels: of its images, None if the first map is dense. tensors: those of its modules. rotated: the tap and the
    tensor of each fixed map that an export added, by the module before it.
    """

    layout: dict[str, Any]
    architecture: dict[str, Any]
    channels: int | None
    tensors: Mapping[str, Tensor]
    rotated: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)


def import_network(request: ImportRequest, out: Path, command: str = "", force: bool = False) -> dict:
    """Write the network file and return its record.

    largest_difference: of a logit from the probe's, over the largest, None without a probe; accuracy: on the first
    SHOWN test images, None without a data set. Raises BadInput for checkpoints that cannot be read or recognised, for a
    data set that does not fit, and for logits that differ; nothing is written then.
    """
    path = request.checkpoint
    kinds.require_target(out, kinds.NETWORK, force, [name for name in (path, request.check, request.layout) if name])
    probe = read_probe(request.check) if request.check else None
    dataset = load_dataset(request.dataset) if request.dataset else None
    described = _described(request)
    network = _network(request, described, dataset, probe)
    axes = Axes(network, bool(described.layout.get("centred")))
    places = places_of(described.layout, network)
    arrays = imported(path, axes, places, _with_maps(described, places))
    if dataset:
        require_fitting(dataset, network.architecture, path)
    proof = prove(path, axes, arrays, shown_of(described.layout, network), probe) if probe else None
    preprocessing, standard = _prepared(request, network.architecture["input_shape"][-1], dataset)
    whole = [name for name in network.weights if name in network.trained]
    stored = {
        "layout": described.layout,
        "preprocessing": preprocessing,
        "proof": proof,
    }
    file = NetworkFile(
        architecture=network.architecture,
        training=Recipe(epochs=0).stored(),
        dataset={
            "name": dataset.name if dataset else "",
            "checksum": dataset.checksum if dataset else "",
            "mean": standard.mean.tolist(),
            "inverse_deviation": standard.inverse.tolist(),
        },
        seed=request.seed,
        status=DONE,
        command=command,
        versions=versions(),
        weights={name: arrays[name] for name in whole},
        state={name: array for name, array in arrays.items() if name not in whole},
        origin={"made": "import", "of": [path]},
        imported=stored,
    )
    save_network(out, file, force)
    return {
        "path": str(out),
        "checkpoint": path,
        "layout": described.layout.get("name", SEQUENTIAL),
        "model": network.architecture["model"],
        "layers": len(network.layers),
        "parameters": cost.parameters(network),
        "proven": proof is not None,
        "largest_difference": proof["largest_difference"] if proof else None,
        "accuracy": _accuracy(network, arrays, dataset, standard) if dataset else None,
    }


def _described(request: ImportRequest) -> Description:
    """Return what a checkpoint describes, by the request or by recognition."""
    path = request.checkpoint
    everything = read_checkpoint(path, request.ignore)
    if not everything:
        raise BadInput(f"{path}: holds no tensor")
    maps = {name: match for name in everything if (match := ROTATED.fullmatch(name))}
    tensors = {name: tensor for name, tensor in everything.items() if name not in maps}
    rotated = {match[1]: (match[2], everything[name]) for name, match in maps.items()}
    layout = read_layout(request.layout) if request.layout else LAYOUTS.get(request.model or "")
    chosen = {"activation": request.activation} if request.activation else {}
    if isinstance(layout, dict) or request.modules is not None or request.model == SEQUENTIAL:
        return _stack(request, tensors, rotated, layout if isinstance(layout, dict) else {})
    names = recognise(path, tensors, layout)
    if names is None:
        return _stack(request, tensors, rotated, {})
    found = architecture(path, names, tensors, chosen)
    return Description(names.layout.stored(), found, found.pop("channels"), tensors, rotated)


def _stack(request: ImportRequest, tensors: Mapping[str, Tensor], rotated: Mapping, layout: Mapping) -> Description:
    said = request.modules if request.modules is not None else layout.get("modules")
    listed = None if said is None else text.parse(said)
    stack = recognise_stack(request.checkpoint, tensors, listed, layout.get("prefix", ""))
    if stack.activation and request.activation and stack.activation != request.activation:
        raise BadInput(f"{request.checkpoint}: `activation` {request.activation}, and modules say {stack.activation}")
    activation = stack.activation or request.activation
    if activation is None and any(part["op"] == "activation" for part in stack.parts):
        log.warning(
            f"{request.checkpoint}: a checkpoint does not tell the nonlinearity; taken for relu (`activation` says it)"
        )
    maps = [part for part in stack.parts if part["op"] in ("dense", "convolution")]
    if not maps:
        raise BadInput(f"{request.checkpoint}: has no Linear and no Conv2d")
    first = next(name for part, name in zip(stack.parts, stack.modules, strict=True) if part is maps[0])
    shape = tensors[f"{first}.weight"].shape
    description = {
        "model": SEQUENTIAL,
        "classes": maps[-1]["units"],
        "parts": list(stack.parts),
        "activation": activation or "relu",
    }
    dense = [name for part, name in zip(stack.parts, stack.modules, strict=True) if part["op"] == "dense"]
    no_bias = [name for name in dense if f"{name}.bias" not in tensors]
    stored = {"name": SEQUENTIAL, "modules": list(stack.modules), "no_bias": no_bias}
    return Description(stored, description, shape[1] if len(shape) == 4 else None, tensors, rotated)


def _network(request: ImportRequest, described: Description, dataset: Dataset | None, probe: Probe | None) -> Network:
    """Return the network, with its fixed maps. Raises BadInput if nothing tells the size of its images."""
    shape: tuple[int, ...] | None = request.image
    if shape is None and dataset:
        shape = dataset.train.images.shape[1:]
    if shape is None and probe and probe.inputs.ndim == 4:
        channels, *sides = probe.inputs.shape[1:]
        shape = (*sides, channels)
    if shape is None and described.channels and described.architecture.get("stem") == models.IMAGENET_STEM:
        shape = (IMAGENET_SIDE, IMAGENET_SIDE, described.channels)
    if shape is None:
        raise BadInput(f"{request.checkpoint}: does not tell the size of its images; give `dataset` or `image`")
    try:
        network = models.build(described.architecture | {"input_shape": list(map(int, shape))})
        nodes = {module: node for node, module in places_of(described.layout, network).items()}
        turned = {nodes.get(module, module.replace("_", "/")): tap for module, (tap, _) in described.rotated.items()}
        return models.build(network.architecture | {"rotated": turned}) if turned else network
    except BadInput as error:
        raise BadInput(f"{request.checkpoint}: {error}") from error


def _with_maps(described: Description, places: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint with those of its fixed maps, by the names that `places` has for them."""
    maps = {f"{module}_rotated_{tap}.weight": tensor for module, (tap, tensor) in described.rotated.items()}
    return {**described.tensors, **maps}


def _prepared(request: ImportRequest, channels: int, dataset: Dataset | None) -> tuple[dict, Standardisation]:
    """Return how images are prepared: in PyTorch's words, and as every command does it."""
    whole = dataset is None or dataset.train.images.dtype == np.uint8
    said: Mapping[str, Any] = {"mean": request.mean, "std": request.std, "divisor": request.divisor}
    if all(value is None for value in said.values()):
        said = preprocessing_in(request.checkpoint)
    divisor = float(said.get("divisor") or (PIXELS if whole else 1.0))
    numbers = []
    for name, usual in (("mean", 0.0), ("std", 1.0)):
        values = np.array(said.get(name) or [usual], np.float64)
        if len(values) not in (1, channels) or not np.isfinite(values).all():
            raise BadInput(f"`{name}` has {len(values)} numbers, and images have {channels} channels: one for each")
        numbers.append(np.broadcast_to(values, channels))
    mean, deviation = numbers
    if not (deviation > 0).all():
        raise BadInput("`std` holds numbers that are not above 0")
    prepared = {"divisor": divisor, "mean": mean.tolist(), "std": deviation.tolist()}
    standard = ((mean * divisor).astype(np.float32), (1 / (deviation * divisor)).astype(np.float32))
    return prepared, Standardisation(*standard)


def _accuracy(network: Network, arrays: Mapping[str, np.ndarray], dataset: Dataset, standard: Standardisation) -> float:
    with_seed = {path: array[None] for path, array in arrays.items()}
    count, size, hits = min(SHOWN, len(dataset.test.labels)), cost.evaluated_at_once(network), 0
    for start in range(0, count, size):
        images, labels = probe_batch(dataset.test, standard, range(start, min(start + size, count)))
        hits += int((predict(network, with_seed, images)[0].argmax(-1) == labels).sum())
    return hits / count
