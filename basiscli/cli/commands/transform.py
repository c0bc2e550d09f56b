"""`basiscli transform`: write a network in another basis."""

from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output

SEED = click.IntRange(min=0)


@click.command(cls=Command, short_help="Permute or rotate the units of a network, and measure how its outputs change.")
@click.argument("network", metavar="NET.h5")
@click.option(
    "--permute", type=SEED, metavar="SEED", help="Put units in a random order, wherever they are made or read."
)
@click.option(
    "--rotate",
    type=SEED,
    metavar="SEED",
    help="Rotate units by a random rotation, and apply its inverse where they are read.",
)
@options.layers
@of_output("--out", type=click.Path(path_type=Path), required=True, metavar="OUT.h5", help="The new network's file.")
@click.option("--dataset", help="Path of the network's data set, if it has moved.")
@of_output("--force", is_flag=True, help="Overwrite the file.")
@records.format_option
def command(network, permute, rotate, layers, out, dataset, force, style) -> None:
    """Write a network in another basis, and measure how its outputs change.

    A permutation moves units in every array that makes, scales or reads them, along residual streams too; the network
    computes the same. A rotation y' = M y of the units of a group goes into the maps that make them, and M⁻¹ into
    the maps that read them. In linear networks the function stays the same; where a nonlinearity lies between the maps,
    it changes. largest_difference is the largest difference of a logit on test images, divided by the largest logit.

    \b
    basiscli transform runs/digits-mlp/seed0.h5 --permute 1 --out permuted.h5
    basiscli transform linear/seed0.h5 --rotate 1 --layer hidden1 --out turned.h5
    """
    if (permute is None) == (rotate is None):
        raise click.UsageError("give one of --permute and --rotate, with a seed")
    from basiscli.alignment import transform
    from basiscli.files import kinds

    kinds.require_target(out, kinds.NETWORK, force, [network])
    how, seed = (transform.PERMUTE, permute) if rotate is None else (transform.ROTATE, rotate)
    change = transform.Change(how, seed, layers)
    records.emit([transform.transform_network(network, change, out, dataset, records.command_line(), force)], style)
