"""`basiscli merge`: the mean of matched networks, as a new network."""

from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output
from basiscli.cli.types import Choice, Numbers


@click.command(cls=Command, short_help="Average matched networks into one.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@of_output("--out", required=True, type=click.Path(path_type=Path), metavar="M.h5", help="Where the network goes.")
@click.option(
    "--match",
    type=Choice("basiscli.alignment.matching:MATCHES"),
    default="activations",
    show_default=True,
    help="How every other network is matched to the first.",
)
@click.option("--weights", type=Numbers(), metavar="X,Y", help="Shares of the networks, 0.3,0.7.  [default: equal]")
@options.restarts
@options.from_init
@click.option(
    "--correct",
    type=Choice("basiscli.alignment.corrections:CORRECTIONS"),
    help="[default: reset-bn; without BatchNorm repair]",
)
@options.corrected_on("Training images that the correction looks at.")
@options.seeded("For matching and images.")
@options.moved_dataset
@options.forced("Overwrite --out.")
@options.computing
@records.format_option
def command(files, out, style, **chosen) -> None:
    """Write the mean of networks: the midpoint of two, the mean of many, after matching all to the first.

    Prints one record: path, networks, match, correct, loss and accuracy of the merged network on the test images, and
    the mean loss and accuracy of the original networks. The file is a network like any other (docs/connectivity.md).

    \b
    basiscli merge runs/a/seed0.h5 runs/a/seed1.h5 --weights 0.3,0.7 --out m.h5
    basiscli train --seeds 5 | basiscli merge - --match weights --out merged.h5
    """
    options.require_weights([chosen["match"]], chosen["from_init"])
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments.paths import merge_files

    record = merge_files(paths_from(files), out, command=records.command_line(), **chosen)
    records.emit([record], style)
