"""`basiscli merge`: the mean of matched networks as a network of its own."""

from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device
from basiscli.cli.commands.interpolate import CORRECTIONS, MATCHES, require_weights


@click.command(short_help="Average matched networks into one.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="M.h5", help="Where the network goes.")
@click.option(
    "--match",
    type=click.Choice(MATCHES),
    default="activations",
    show_default=True,
    help="How every other network is matched to the first.",
)
@click.option("--restarts", type=click.IntRange(min=1), help="Of matching weights (see match).  [default: 8]")
@click.option("--from-init", is_flag=True, help="Match weights minus what they were before training.")
@click.option("--correct", type=click.Choice(CORRECTIONS), help="[default: reset-bn; without BatchNorm repair]")
@click.option(
    "--correct-on", type=click.IntRange(min=2), default=2000, show_default=True, metavar="N",
    help="Training images that the correction looks at.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For matching and images.")
@click.option("--dataset", help="Where the networks' data set is now, if it has moved.")
@click.option("--force", is_flag=True, help="Overwrite --out.")
@device.options
@records.format_option
def command(files, out, match, restarts, from_init, correct, correct_on, seed, dataset, force, style) -> None:
    """Write the mean of networks: the midpoint of two, the mean of many, after matching all to the first.

    Prints one record: path, networks, match, correct, loss and accuracy of the merged network on the test images, and
    the mean of those that it was made of. The file is a network like any other (docs/connectivity.md).

    \b
    basiscli merge runs/digits-mlp/seed0.h5 runs/digits-mlp/seed1.h5 --out merged.h5
    basiscli train --seeds 5 | basiscli merge - --match weights --out merged.h5
    """
    require_weights([match], from_init)
    from dataclasses import replace

    from basiscli.alignment import corrections, interpolation
    from basiscli.cli.inputs import paths_from
    from basiscli.files import hdf5
    from basiscli.files.datasets import dataset_of
    from basiscli.files.networks import save_network

    hdf5.require_new(out, force)
    networks = interpolation.load_alike(paths_from(files), dataset)
    correct = correct or corrections.default(networks[0].network)
    corrections.require_possible(networks[0].network, [correct])
    walk = interpolation.plan(networks, dataset_of(networks[0]), ("test",), correct_on=correct_on, seed=seed)
    (request,) = interpolation.requests([match], restarts=restarts, from_init=from_init, seed=seed).values()
    merged, scores = interpolation.merge(walk, networks, request, correct)
    save_network(out, replace(merged, command=records.command_line()), force)
    record = {"path": str(out), "networks": len(networks), "match": match, "correct": correct}
    for name, values in scores.items():
        record |= {name: values[-1], f"{name}_before": values[:-1].mean()}
    records.emit([record], style)
