"""`basiscli models`: the architectures and their costs."""

import click

from basiscli.cli import records
from basiscli.cli.help import Command
from basiscli.cli.types import Image


@click.command(cls=Command)
@click.option("--image", type=Image(), default="32x32x3", show_default=True, help="Height x width x channels.")
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="For the memory.")
@records.format_option
def command(image: tuple[int, int, int], classes: int, batch_size: int, style: str | None) -> None:
    """List the architectures with their costs for an image of some size.

    parameters; multiply_adds of a forward pass of one image (a training step takes about three times that); memory_mb
    of one network in training with SGD. A model that cannot take the image is left out, with a line on stderr. The
    width changes all of these numbers: `basiscli train ... --dry-run` prints them for any choice. docs/models.md
    describes each model.

    \b
    basiscli models
    basiscli models --image 28x28x1 --batch-size 64
    """
    from basiscli.training.catalogue import describe_models

    records.emit(describe_models(image, classes, batch_size), style)
