"""`basiscli export`: a network file becomes a PyTorch state dict."""

from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output
from basiscli.cli.types import Choice


@click.command(cls=Command, short_help="Write a network as a PyTorch state dict, and the program of its module.")
@click.argument("network", metavar="NET.h5")
@of_output(
    "--out", type=click.Path(path_type=Path), required=True, metavar="NET.safetensors", help="The state dict; or .npz."
)
@click.option(
    "--layout",
    type=Choice("basiscli.foreign.exporting:EXPORTED"),
    help="Whose names.  [default: those of the import, else what is usual for the model]",
)
@of_output("--module", type=click.Path(path_type=Path), metavar="NET.py", help="Write the PyTorch module, too.")
@options.forced("Overwrite --out and --module.")
@records.format_option
def command(network, out, layout, module, force, style) -> None:
    """Write a network as a PyTorch state dict, with names and shapes as PyTorch wants them.

    Any network file goes: trained, imported, matched, merged, permuted. A rotated one has its rotation folded into the
    weights where nothing lies between; elsewhere it becomes a 1x1 map of its own, which --module knows. Prints one
    record: path, layout, tensors, parameters, folded and maps.

    \b
    basiscli export merged.h5 --out merged.safetensors
    basiscli export runs/digits-mlp/seed0.h5 --out mlp.safetensors --module mlp.py
    """
    from basiscli.foreign.exporting import export_network

    records.emit([export_network(network, out, layout, module, force)], style)
