"""The architectures and what each costs, as records (docs/models.md)."""

from collections.abc import Iterator, Mapping
from typing import Any

from basiscli.errors import BadInput
from basiscli.nn import cost, models
from basiscli.notes import log
from basiscli.training import defaults

# The stages of ResNet-18 to 152.
STAGES: dict[str, Any] = {"stage_widths": (64, 128, 256, 512), "shortcut": "B"}
# What is listed: a model and what it leaves open.
LISTED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mlp", {"hidden": (512, 512, 512)}),
    ("convnet", {}),
    ("vgg", {"depth": 11}),
    ("vgg", {"depth": 16}),
    ("resnet", {"depth": 20}),
    ("resnet", {"depth": 32}),
    ("resnet", {"depth": 56}),
    ("resnet", STAGES | {"stage_blocks": (2, 2, 2, 2)}),
    ("resnet", STAGES | {"stage_blocks": (3, 4, 6, 3), "block": "bottleneck", "stem": "imagenet"}),
    ("wideresnet", {"depth": 16, "width": 4}),
    ("wideresnet", {"depth": 28, "width": 10}),
)


def describe_models(image: tuple[int, int, int], classes: int, batch_size: int) -> Iterator[dict]:
    """Yield a record for each listed model that can take an image (H, W, C): its layers, parameters, work and memory.

    A model that cannot take the image is left out, with a note.
    """
    for model, choices in LISTED:
        try:
            network = models.build(defaults.description(model, image, classes, choices))
        except BadInput as error:
            log.warning(f"{model} is left out: {error}")
            continue
        yield {
            "model": model,
            "depth": choices.get("depth") or _depth(choices),
            "width": choices.get("width", 1) if model != "mlp" else choices["hidden"][0],
            "layers": len(network.layers),
            "parameters": cost.parameters(network),
            "multiply_adds": cost.multiply_adds(network),
            "memory_mb": round(cost.training_bytes(network, batch_size, slots=1) / 1e6, 1),
        }


def _depth(choices: Mapping[str, Any]) -> int | None:
    """Return the number of maps on the longest way through a resnet of stages, None for other models."""
    if "stage_blocks" not in choices:
        return None
    return 2 + sum(choices["stage_blocks"]) * (3 if choices.get("block") == models.BOTTLENECK else 2)
