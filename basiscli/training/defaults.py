"""What a model and a data set imply where the options of training say nothing (docs/models.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from basiscli.data import Dataset
from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.training import augment

DIGITS, CIFAR, NAMED, PATHS = "digits", "cifar", "other names", "paths"
EPOCHS = 10
# What reaches the usual accuracy of residual networks on CIFAR; an MLP has learnt what it can much earlier.
CIFAR_EPOCHS = 100
BATCH_SIZES = {DIGITS: 64, CIFAR: 128, NAMED: 128, PATHS: 128}
AUGMENTATIONS = {DIGITS: augment.ALL_SHIFTS, CIFAR: "crop,flip", NAMED: "shift", PATHS: augment.NONE}
# The 597 test images of digits are few to hold half of them out; with their shifts there are 5,373.
PROBES = {DIGITS: "test-shifts"}
# An MLP's depth, and its width on digits and elsewhere.
DEPTH, DIGITS_WIDTH, WIDTH = 3, 64, 512
ADAMW = {"lr": 0.001, "weight_decay": 0.01}
MLP_SGD = {"lr": 0.05, "weight_decay": 0.0}
# He et al. 2016 and Zagoruyko and Komodakis 2016. Without normalisation a smaller rate learns faster: of 0.02, 0.05 and
# 0.1, convnet's loss on CIFAR-10 after 150 steps was lowest at 0.02 (1.85, 1.98, 1.98).
CONVOLUTIONAL_SGD = {"lr": 0.1, "weight_decay": 5e-4}
UNNORMALISED_SGD = {"lr": 0.02, "weight_decay": 5e-4}


def implied(dataset: Dataset, model: str, optimizer: str, norm: str | None) -> dict[str, object]:
    """Return what a data set, a model, an optimiser and a normalisation imply for the other options, by name."""
    kind, convolutional = _kind(dataset), model != "mlp"
    return {
        "epochs": CIFAR_EPOCHS if kind == CIFAR and convolutional else EPOCHS,
        "batch_size": BATCH_SIZES[kind],
        "augment": AUGMENTATIONS[kind] if convolutional or kind != CIFAR else AUGMENTATIONS[NAMED],
        "out": f"runs/{Path(dataset.name).stem}-{model}",
        **_optimizer(model, optimizer, norm),
    }


def hidden(dataset: Dataset, width: int | None, depth: int | None) -> tuple[int, ...]:
    """Return the units of an MLP's hidden layers."""
    return (width or (DIGITS_WIDTH if _kind(dataset) == DIGITS else WIDTH),) * (depth or DEPTH)


def probe(dataset: Dataset) -> str:
    """Return the split that networks of a data set are correlated on."""
    return PROBES.get(_kind(dataset), "test")


def description(model: str, input_shape: Sequence[int], classes: int, chosen: Mapping) -> dict:
    """Return a description of a model, with those of the `chosen` values that are its own and not None.

    Raises BadInput for a depth that VGG does not have.
    """
    if model == "vgg" and chosen.get("depth"):
        chosen = dict(chosen) | {"layout": _vgg_layout(chosen["depth"])}
    return {
        "model": model,
        "input_shape": list(input_shape),
        "classes": classes,
        **{name: chosen[name] for name in models.choices(model) if chosen.get(name) is not None},
    }


def _kind(dataset: Dataset) -> str:
    if dataset.name == "digits":
        return DIGITS
    if dataset.name.startswith("cifar"):
        return CIFAR
    return PATHS if Path(dataset.name).suffix else NAMED


def _optimizer(model: str, optimizer: str, norm: str | None) -> dict:
    if optimizer == "adamw":
        return ADAMW
    if model == "mlp":
        return MLP_SGD
    normalised = norm != "none" and not (model == "convnet" and norm is None)
    return CONVOLUTIONAL_SGD if normalised else UNNORMALISED_SGD


def _vgg_layout(depth: int) -> tuple:
    if depth not in models.VGG:
        raise BadInput(f"`depth` {depth}: vgg has {' or '.join(map(str, models.VGG))} layers, or a `layout` of its own")
    return models.VGG[depth]
