"""`basiscli rotate`: can training undo a rotation of a representation?"""

from collections.abc import Mapping

import click

from basiscli.cli import options, records
from basiscli.cli.help import GOES_ON, Command, of_output, of_training
from basiscli.cli.types import Choice, Finite, Names, Powers


@click.command(
    cls=Command, go_on=GOES_ON, short_help="Rotate representations of trained networks, and try to train them back."
)
@click.argument("networks", nargs=-1, required=True, metavar="NET.h5...")
@options.layers
@click.option(
    "--kind",
    "kinds",
    type=Names("basiscli.analysis.random_maps:KINDS"),
    metavar="NAMES",
    help="Of M: orthogonal, permutation, signed-permutation, relu-symmetry (a permutation times positive scales),"
    " identity (the reference of the others, always included); or all.  [default: orthogonal,permutation, and"
    " where it is a symmetry relu-symmetry]",
)
@click.option(
    "--power", "powers", type=Powers(), default="1", show_default=True, help="Powers of orthogonal M: 0.25,0.5,1."
)
@click.option(
    "--tap",
    type=Choice("basiscli.experiments.rotation_sites:TAPS"),
    default="pre",
    show_default=True,
    help="M before the nonlinearity (and after a normalisation), or after it.",
)
@click.option(
    "--retrain",
    type=Choice("basiscli.experiments.rotation_sites:RETRAINED"),
    default="downstream",
    show_default=True,
    help="Which layers to train: those after M, those up to M, or none. M is never trained.",
)
@click.option(
    "--start",
    type=Choice("basiscli.experiments.rotation_sites:STARTS"),
    help="Start from the trained weights, or from new random weights.  [default: reinit for mlp, else continue]",
)
@click.option("--cumulative", is_flag=True, help="Rotate every layer up to the chosen one, each by its own M.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=3, show_default=True, help="Draws of M for a network.")
@of_training("--epochs", type=click.IntRange(min=1), help="[default: as the networks were trained]")
@of_training("--lr", type=Finite(min=0, min_open=True), help="[default: as the networks were trained]")
@of_training(
    "--clip",
    type=Finite(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Bound on each network's gradient norm, in all arms.",
)
@of_training("--augment", metavar="LIST", help="As of `train`.  [default: as the networks were trained]")
@options.moved_dataset
@of_output("--out", metavar="FOLDER", help="Where the files go.  [default: runs/DATASET-MODEL-rotated]")
@options.plotted("Draw the penalty against depth and, with several powers, against the power.")
@options.forced("Overwrite networks in the folder, and --plot.")
@options.computing
@records.format_option
def command(networks, layers, dataset, out, plot, force, style, **chosen) -> None:
    """Can training undo a rotation of a representation?

    Puts a fixed map M over the units of a layer of trained networks, freezes M and the layers before M, trains the
    rest, and reports the cost of M compared with the identity, trained in the same way: penalties in accuracy, test
    loss and training loss, with intervals over networks and repeats. It also compares orthogonal M with permutations
    and with the symmetry of ReLU, paired (docs/rotate.md).

    NET.h5... are networks of one architecture and data set, - reads them from stdin. All kinds and repeats of a layer
    train at once, from the same draws in the same order of images. Every rotated network is a file that correlate,
    record and interpolate take. Existing files are kept, so the same command goes on after an interruption.

    \b
    basiscli rotate runs/digits-mlp/*.h5 --plot rotated.png
    basiscli rotate runs/digits-mlp/*.h5 --layer hidden1 --power 0.25,0.5,0.75,1
    basiscli train --seeds 3 --out new | basiscli rotate - --epochs 5
    """
    _require_consistent(chosen)
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments import rotation
    from basiscli.experiments.figures import drawn_at_end
    from basiscli.experiments.rotation_experiment import Experiment
    from basiscli.experiments.rotation_sites import Protocol

    paths = paths_from(networks)
    experiment = Experiment.of(paths, layers, Protocol(**chosen), dataset, out, records.command_line())
    results = rotation.rotate_networks(experiment, force)
    records.emit(drawn_at_end(results, "rotations_figure", plot, force), style, row=_row)


def _require_consistent(chosen: dict) -> None:
    """Raise UsageError for options that contradict each other."""
    kinds = chosen["kinds"]
    if kinds and "relu-symmetry" in kinds and chosen["tap"] == "post":
        raise click.UsageError("relu-symmetry is about a map before ReLU; after it (--tap post) take permutation")
    if kinds and "orthogonal" not in kinds and chosen["powers"] != (1,):
        raise click.UsageError("--power is of orthogonal maps, which --kind leaves out")
    if chosen["retrain"] == "none" and (chosen["start"] or chosen["epochs"] or chosen["lr"] or chosen["augment"]):
        raise click.UsageError("--retrain none trains nothing: leave out --start, --epochs, --lr and --augment")


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns. `- permutation` is orthogonal minus permutation, paired."""
    power = "" if record["power"] == 1 else f"^{record['power']:g}"
    kind = record["kind"] if record["over"] == "identity" else f"- {record['over']}"
    return {
        "layer": record["layer"],
        "M": f"{kind}{power}",
        "failed": record["failed"],
        "points lost": records.interval(record, "penalty_accuracy", 100, 1),
        "training loss gained": records.interval(record, "penalty_train_loss"),
    }
