"""`basiscli connectivity`: does width lower the barrier between networks, and is it the correlation of their bases?"""

from dataclasses import replace

import click
from click.core import ParameterSource

from basiscli.cli import options, records, training_options
from basiscli.cli.messages import usage
from basiscli.cli.types import Finite, WidthList

# Options of training that the widths take the place of or that are of no use here, and those in words of its own.
NOT_TRAINS = training_options.SWEPT | {"hidden", "start_only", "width"}
# The widths of a perceptron if nothing is said.
WIDTHS = (16, 64, 256)


@click.command(short_help="Barriers between networks against their width, beside their correlation.")
@click.argument("files", nargs=-1, metavar="[FILES OR FOLDERS...]")
@click.option("--widths", type=WidthList(), metavar="W,...", help="[default: 16,64,256 for mlp]")
@options.swept_seeds
@options.walking
@click.option(
    "--degrade",
    is_flag=True,
    help="Also make each matching worse, by a circle of partners and by fewer images, until all widths correlate alike"
    " (a control): 0.05 less than the lowest of them.",
)
@click.option(
    "--degrade-to",
    type=Finite(-1, 1),
    metavar="R",
    help="Make it worse until it correlates R instead.",
)
@options.inputs(
    "--probe",
    "Images to correlate on; matched are training images, walked those of --split, both unshifted.",
    default="test",
    show_default=True,
)
@options.swept_draws
@click.option(
    "--out",
    metavar="FOLDER",
    help="Where networks that are trained go, a folder a width.  [default: runs/DATASET-MODEL-connectivity]",
)
@options.plotted("Draw barrier and correlation.")
@options.forced("Overwrite networks in the folder, and --plot.")
@options.computing
@records.format_option
@training_options.training(without=NOT_TRAINS)
@options.correlating
@click.pass_context
def command(
    context,
    files,
    widths,
    matches,
    restarts,
    from_init,
    corrected,
    correct_on,
    points,
    splits,
    samples,
    temperature,
    degrade,
    degrade_to,
    probe,
    draws,
    plot,
    style,
    tap,
    positions,
    dead,
    **chosen,
) -> None:
    """Does width lower the barrier, and is it because the bases correlate more?

    Trains networks of several widths and seeds, or takes trained ones, which may differ in nothing but width and seed.
    For every width, match and correction: the barrier on the straight line between two networks, the correlation of
    the units that were matched, on images that the matching has not seen, and for the same pairs the held-out
    correlation, its rotated null and its aligned ceiling; means over pairs, with intervals over
    networks (docs/connectivity.md). What is trained already is kept.

    \b
    basiscli connectivity --plot connectivity.png
    basiscli connectivity --dataset cifar10 --model vgg --widths 1/16,1/8,1/4 --seeds 3 --epochs 8
    basiscli connectivity runs/mnist-32 runs/mnist-128 runs/mnist-512 --match none,activations --degrade
    """
    from basiscli.analysis.assess import CorrelationRequest
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments import connectivity
    from basiscli.experiments.figures import drawn_at_end

    if any(name.endswith(".h5") for name in matches):
        raise click.UsageError("--match: a file of permutations is of one width; take activations, weights or both")
    options.require_weights(matches, from_init)
    if (degrade or degrade_to is not None) and matches == ("none",):
        raise click.UsageError("--degrade undoes matches, and --match none makes none")
    if files:
        _require_no_training(context)
        groups = connectivity.networks_by_width(paths_from(files))
    else:
        groups = _trained(chosen, widths)
    sweep = connectivity.WidthSweep(
        matches=matches,
        matching={"restarts": restarts, "from_init": from_init},
        corrected=corrected,
        splits=splits,
        walking={"points": points, "samples": samples, "correct_on": correct_on, "temperature": temperature},
        probe=probe,
        tap=tap,
        positions=positions,
        request=CorrelationRequest(("rotated",), draws, drop_dead=dead == "drop", seed=connectivity.SEED),
        degrade=degrade or degrade_to is not None,
        degrade_to=degrade_to,
        dataset=chosen["dataset"] if files and _given(context, "dataset") else None,
    )
    results = connectivity.sweep_widths(sweep, groups)
    records.emit(drawn_at_end(results, "connectivity_figure", plot, chosen["force"]), style, row=_row)


def _trained(chosen: dict, widths: tuple | None):
    """Return the groups of networks that the options of train describe, to be trained."""
    from basiscli.experiments import connectivity
    from basiscli.experiments.training import TrainingJob

    job = TrainingJob.of(chosen | {"activations": False, "command": records.command_line()})
    widths = widths or (WIDTHS if job.model == "mlp" else None)
    if widths is None:
        raise click.UsageError(f"--widths: {job.model} has no usual ones; such as 1/4,1/2,1")
    with usage():
        for width in widths:
            replace(job, width=width).require_consistent()
    options.require_pairs(job.seeds)
    return connectivity.train_widths(job, widths)


def _require_no_training(context: click.Context) -> None:
    """Raise UsageError for an option of training beside networks that are trained."""
    trained = training_options.TRAINING.keys() - NOT_TRAINS - {"dataset"}
    names = trained | {"widths", "seeds", "out"}
    for name in sorted(names):
        if _given(context, name):
            raise click.UsageError(f"--{name.replace('_', '-')} is for training; the networks are there already")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == ParameterSource.COMMANDLINE


def _row(record: dict) -> dict:
    """Return the row of a table, narrow enough for most terminals."""
    return {
        "width": f"{record['width']:g}",
        "match": record["match"],
        "correct": record["correct"] if record["split"] == "test" else f"{record['correct']}, {record['split']}",
        "barrier": records.interval(record, "barrier", digits=2),
        "correlation": _short(record["correlation"]),
        "held out": records.interval(record, "matched_held_out", digits=2),
        "null": _short(record["rotated_held_out_mean"]),
    }


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
