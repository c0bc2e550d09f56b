"""`basiscli connectivity`: does width lower the barrier between networks, and do their bases explain it?"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import click
from click.core import ParameterSource

from basiscli.cli import options, records, training_options
from basiscli.cli.help import GOES_ON, Command, of_output
from basiscli.cli.messages import usage
from basiscli.cli.types import Finite, WidthList

# Options of training that `--widths` replaces, that are of no use here, or that this command has in its own words.
NOT_TRAINS = training_options.SWEPT | {"hidden", "start_only", "width"}
# The widths of a perceptron if none are given.
WIDTHS = (16, 64, 256)


@click.command(
    cls=Command, go_on=GOES_ON, short_help="Barriers between networks against their width, beside their correlation."
)
@click.argument("files", nargs=-1, metavar="[FILES OR FOLDERS...]")
@click.option("--widths", type=WidthList(), metavar="W,...", help="[default: 16,64,256 for mlp]")
@options.swept_seeds
@options.walking
@click.option(
    "--degrade",
    is_flag=True,
    help="A control: also make each matching worse, by a circle of partners and by fewer images, until all widths have"
    " the same correlation, 0.05 less than the lowest.",
)
@click.option(
    "--degrade-to",
    type=Finite(-1, 1),
    metavar="R",
    help="Make each matching worse until its correlation is R instead.",
)
@options.inputs(
    "--probe",
    "Images to correlate on. Matches are of training images, lines of images of --split, both without shifts.",
    default="test",
    show_default=True,
)
@options.swept_draws
@of_output(
    "--out",
    metavar="FOLDER",
    help="Folder for the trained networks, with a folder for each width.  [default: runs/DATASET-MODEL-connectivity]",
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
    memory,
    **chosen,
) -> None:
    """Does width lower the barrier, and is the reason that the bases correlate more?

    Trains networks of several widths and seeds, or takes trained networks that differ only in width and seed. Prints
    for every width, match and correction: the barrier on the straight line between two networks; the correlation of
    the matched units, on images that were not used for the match; and for the same pairs the held-out correlation, its
    rotated null and its aligned ceiling. All are means over pairs, with intervals over networks
    (docs/connectivity.md). Existing networks are kept.

    \b
    basiscli connectivity --plot connectivity.png
    basiscli connectivity --dataset cifar10 --model vgg --widths 1/16,1/8,1/4
    basiscli connectivity runs/mnist-32 runs/mnist-512 --match activations
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
        groups = iter(connectivity.networks_by_width(paths_from(files)))
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
        memory=memory,
    )
    results = connectivity.sweep_widths(sweep, groups)
    records.emit(drawn_at_end(results, "connectivity_figure", plot, chosen["force"]), style, row=_row)


def _trained(chosen: dict, widths: tuple | None) -> Iterator[tuple[float, list[str]]]:
    """Return widths and their networks, as the options of training describe them. Networks are trained on the way."""
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
    """Raise UsageError for an option of training given together with trained networks."""
    trained = training_options.TRAINING.keys() - NOT_TRAINS - {"dataset"}
    names = trained | {"widths", "seeds", "out"}
    for name in sorted(names):
        if _given(context, name):
            raise click.UsageError(f"--{name.replace('_', '-')} is for training; the networks are there already")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == ParameterSource.COMMANDLINE


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns."""
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
