"""`--device` and `--precision`: where a command computes."""

from collections.abc import Callable
from functools import wraps

import click

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "tf32", "bf16")
_device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes a GPU where cupy finds one (docs/gpu.md).",
)
_precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the products of maps and convolutions on a GPU (docs/gpu.md).",
)


def asked(command: Callable) -> Callable:
    """Give a command the options `device` and `precision`, to do with as it likes."""
    return _device(_precision(command))


def options(command: Callable) -> Callable:
    """Give a command both options, and run it where they say."""

    @wraps(command)
    def run(*arguments, device, precision, **rest):
        from basiscli.device import placement

        with placement.using(device, precision):
            return command(*arguments, **rest)

    return asked(run)
