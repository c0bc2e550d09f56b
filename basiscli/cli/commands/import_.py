"""`basiscli import`: a PyTorch checkpoint becomes a network file."""

from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_network, of_output
from basiscli.cli.types import Choice, Finite, Image, Numbers

FILE = click.Path(dir_okay=False)


@click.command(cls=Command, short_help="Read a PyTorch checkpoint, and prove that it computes the same.")
@click.argument("checkpoint", metavar="CHECKPOINT")
@of_output("--out", type=click.Path(path_type=Path), required=True, metavar="NET.h5", help="The network's file.")
@click.option(
    "--check", type=FILE, metavar="PROBE.npz", help="Inputs and logits from PyTorch (docs/import.md), to compare with."
)
@click.option("--dataset", help="The network's images: a name (see `basiscli data list`), or a path.")
@of_network("--image", type=Image(), help="Height x width x channels.  [default: those of --dataset or --check]")
@click.option(
    "--mean", type=Numbers(), help="What is subtracted from images, per channel.  [default: 0, or what export noted]"
)
@click.option("--std", type=Numbers(), help="What images are then divided by, per channel.  [default: 1, likewise]")
@click.option(
    "--divisor",
    type=Finite(min=0, min_open=True),
    help="What pixels are divided by before.  [default: 255, as ToTensor does; 1 for images of floats]",
)
@of_network(
    "--model", type=Choice("basiscli.foreign.importing:KNOWN"), help="Its layout.  [default: by names and shapes]"
)
@of_network("--layout", type=FILE, metavar="FILE.toml", help="A layout of your own (docs/import.md).")
@of_network(
    "--modules", metavar="LIST", help="Of a plain stack, as PyTorch prints them: Conv2d(padding=1),ReLU,Linear."
)
@of_network(
    "--activation",
    type=Choice("basiscli.nn.models:ACTIVATIONS"),
    help="The nonlinearity, which no checkpoint tells.  [default: relu]",
)
@of_network("--ignore", multiple=True, metavar="GLOB", help="Tensors to leave out.")
@options.seeded("What the file states; `rotate` wants a seed of its own for each network.")
@options.forced("Overwrite --out.")
@options.computing
@records.format_option
def command(out, force, style, **chosen) -> None:
    """Read a PyTorch checkpoint into a network file, and prove that it computes the same.

    CHECKPOINT is a state dict in a safetensors or .npz file, or a PyTorch file where PyTorch is installed. ResNets,
    WideResNets and VGGs in common layouts, and plain stacks, are recognised from names and shapes; docs/import.md has
    them all, and how others are described.

    With --check the logits are compared; without it the file says that it is unproven, and so does every command that
    uses it. Prints one record: path, layout, model, parameters, largest_difference, and accuracy on the first 1000 test
    images if --dataset is given.

    \b
    basiscli import net.safetensors --check probe.npz --dataset mnist --out net.h5
    basiscli import net.pt --dataset mine.npz --mean 0.5 --std 0.25 --out net.h5
    """
    from basiscli.foreign.importing import ImportRequest, import_network

    records.emit([import_network(ImportRequest(**chosen), out, records.command_line(), force)], style)
