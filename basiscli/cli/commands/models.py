"""`basiscli models`: the architectures and what they cost."""

import re
from collections.abc import Iterator

import click

from basiscli.cli import records

# What is listed: a model and what it leaves open.
LISTED = (
    ("mlp", {"hidden": (512, 512, 512)}),
    ("convnet", {}),
    ("vgg", {"depth": 11}),
    ("vgg", {"depth": 16}),
    ("resnet", {"depth": 20}),
    ("resnet", {"depth": 32}),
    ("resnet", {"depth": 56}),
    ("wideresnet", {"depth": 16, "width": 4}),
    ("wideresnet", {"depth": 28, "width": 10}),
)


class Image(click.ParamType):
    """The size of an image: height x width x channels, `32x32x3`."""

    name = "image"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)x0*([1-9]\d*)", value)
        if not match:
            self.fail(f"'{value}': write height x width x channels, such as 32x32x3", param, ctx)
        return tuple(map(int, match.groups()))


@click.command()
@click.option("--image", type=Image(), default="32x32x3", show_default=True, help="Height x width x channels.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="For the memory.")
@records.format_option
def command(image: tuple[int, int, int], classes: int, batch_size: int, style: str | None) -> None:
    """List the architectures with what they cost on an image of some size.

    parameters; multiply_adds of a forward pass of one image (a training step takes about three times that); memory_mb
    of one network in training with SGD. A model that cannot take the image is left out, with a line on stderr. Widths
    are multipliers and change all of it: `basiscli train ... --dry-run` says it for any choice. docs/models.md
    describes each.
    """
    records.emit(_records(image, classes, batch_size), style)


def _records(image: tuple[int, int, int], classes: int, batch_size: int) -> Iterator[dict]:
    from basiscli.errors import BadInput
    from basiscli.nn import cost, models
    from basiscli.training import defaults

    for model, choices in LISTED:
        try:
            network = models.build(defaults.description(model, image, classes, choices))
        except BadInput as error:
            click.echo(f"note: {model} is left out: {error}", err=True)
            continue
        yield {
            "model": model,
            "depth": choices.get("depth"),
            "width": choices.get("width", 1) if model != "mlp" else choices["hidden"][0],
            "layers": len(network.layers),
            "parameters": cost.parameters(network),
            "multiply_adds": cost.multiply_adds(network),
            "memory_mb": round(cost.training_bytes(network, batch_size, slots=1) / 1e6, 1),
        }
