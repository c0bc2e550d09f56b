"""`basiscli interpolate`: loss and accuracy on the line between networks, with and without matches and corrections."""

from collections.abc import Mapping
from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command


@click.command(cls=Command, short_help="Walk on the straight line between networks: how high is the barrier?")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@options.walking
@options.seeded("For matching and samples.")
@options.moved_dataset
@options.plotted("Draw loss and accuracy.")
@options.forced("Overwrite --plot.")
@options.computing
@records.format_option
def command(files, style, **chosen) -> None:
    """How high does the loss rise between two networks?

    For every pair of networks, every way to match the second to the first and every correction: loss and accuracy at
    each λ of θ(λ) = (1 - λ) θ_a + λ π(θ_b), the barrier (the most that the loss lies above the chord between its
    ends), and its height at the midpoint; then the mean over pairs, with intervals over networks
    (docs/connectivity.md). `-` reads paths or records from stdin.

    \b
    basiscli interpolate runs/a/seed0.h5 runs/a/seed1.h5 --plot path.png
    basiscli train --seeds 5 | basiscli interpolate - --split test,train
    """
    options.require_weights(chosen["matches"], chosen["from_init"])
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments.paths import interpolate_files

    records.emit(interpolate_files(paths_from(files), **chosen), style, row=_row)


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns."""
    pair = f"{Path(record['a']).stem} {Path(record['b']).stem}" if record["pairs"] == 1 else record["b"]
    return {
        "networks": pair,
        "match": record["match"],
        "correct": record["correct"],
        "split": record["split"],
        "barrier": records.interval(record, "barrier", digits=2),
        "points lost": f"{100 * record['accuracy_barrier']:.1f}",
    }
