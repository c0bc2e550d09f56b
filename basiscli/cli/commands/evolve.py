"""`basiscli evolve`: when in training does a basis form?"""

from collections.abc import Mapping

import click

from basiscli.cli import options, records, training_options
from basiscli.cli.help import Command, of_output
from basiscli.cli.messages import usage
from basiscli.cli.types import EpochList


@click.command(cls=Command, short_help="Share, privilege, accuracy and barrier of networks over their training.")
@click.option(
    "--keep",
    type=EpochList(),
    default="log",
    show_default=True,
    metavar="EPOCHS|log",
    help="Epochs to look at beside the last, 0 for the start; log stands for 0,1,2,4,8 and so on.",
)
@options.evolving
@click.option(
    "--barrier/--no-barrier", default=True, show_default=True, help="Also walk between the networks of each epoch."
)
@click.option(
    "--points", type=options.Points(), default=11, show_default=True, help="Values of λ on the way, an odd number."
)
@click.option("--pairs", is_flag=True, help="Print a record for each pair of networks instead of their means.")
@of_output("--out", metavar="FOLDER", help="Where the networks go.  [default: runs/DATASET-MODEL-evolve]")
@options.plotted("Draw everything over epochs.")
@options.forced("Overwrite networks in the folder, and --plot.")
@options.computing
@records.format_option
@training_options.training(without=training_options.SWEPT | {"start_only"})
@options.evolving_taps
def command(split, draws, barrier, points, pairs, plot, style, tap, positions, dead, **chosen) -> None:
    """When in training does a basis form, and how privileged is it?

    Trains networks of several seeds and keeps them as they are after some epochs. Prints for each of these epochs and
    for every layer: the share of the way from the rotated null to the aligned ceiling, how privileged each network's
    basis is, CKA, the accuracy, and the barrier on the line between two networks, not matched and matched by
    activations. All have intervals over networks; rises are over the first epoch (docs/evolve.md).

    Existing networks are kept, so the same command goes on after an interruption, and another --plot costs no
    training.

    \b
    basiscli evolve --plot evolve.png
    basiscli evolve --dataset mnist --width 128 --keep 0,1,2,5 --epochs 10
    """
    from basiscli.analysis.assess import CorrelationRequest
    from basiscli.experiments import evolution
    from basiscli.experiments.figures import drawn_at_end
    from basiscli.experiments.training import TrainingJob

    job = TrainingJob.of(chosen | {"command": records.command_line()})
    with usage():
        job.require_consistent()
    options.require_pairs(job.seeds)
    if pairs and plot:
        raise click.UsageError("--plot draws means over networks, and --pairs prints none")
    request = CorrelationRequest(("rotated",), draws, ("cka",), drop_dead=dead == "drop", seed=evolution.SEED)
    asked = evolution.Evolution(job, request, split, tap, positions, barrier, points)
    if pairs:
        records.emit(evolution.pairs_over_epochs(asked), style)
        return
    results = evolution.evolve(asked)
    drawn = drawn_at_end(results, "evolution.evolution_figure", plot, job.force)
    records.emit(drawn, style, row=_row, needed=5, words=evolution.sentences)


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns, with intervals in brackets."""
    row = {"epoch": record["epoch"], "layer": record["layer"]}
    row |= {name: records.interval(record, name, digits=2) for name in ("share", "privilege")}
    return row | {"accuracy": record["test_accuracy"], "barrier": record["barrier"]}
