"""`basiscli compare`: on what does the basis of networks depend?"""

from collections.abc import Mapping
from pathlib import Path

import click
from click.core import ParameterSource

from basiscli.cli import options, records, training_options
from basiscli.cli.help import Command, of_output
from basiscli.cli.messages import usage
from basiscli.cli.planning import ending_at_once, jobs_here, parse, placed
from basiscli.cli.types import Factor

# Options of training that sweeps set themselves, and the one whose name is taken.
NOT_TRAINS = training_options.SWEPT | {"start_only", "vary"}
# What the cells of a grid have in common with `evolve`, beside the options of training.
SHARED = ("seeds", "split", "draws", "barrier", "tap", "positions", "dead")
DRY_COLUMNS = ("step", "networks", "seconds", "memory_mb", "disk_mb", "why")


@click.command(cls=Command, short_help="Share, privilege and accuracy over a grid of training options.")
@click.option(
    "--vary",
    "factors",
    type=Factor(),
    multiple=True,
    required=True,
    metavar="OPTION=LEVELS",
    help="An option of training and its levels, given once for each factor of the grid. Contrasts are with the first"
    " level.",
)
@options.evolving
@click.option("--barrier/--no-barrier", default=False, show_default=True, help="Also walk between the networks.")
@of_output("--out", metavar="FOLDER", help="Where everything goes.  [default: runs/DATASET-MODEL-compare]")
@options.plotted("Draw cells and contrasts.")
@options.forced("Overwrite --plot.")
@options.running
@click.option("--dry-run", is_flag=True, help="Show which cells would be trained, how long, and in how much memory.")
@options.computed_on
@records.format_option
@training_options.training(without=NOT_TRAINS)
@options.evolving_taps
@click.pass_context
def command(context, factors, out, plot, force, jobs, scheduler, dry_run, device, precision, style, **chosen) -> None:
    """On what does a basis depend: the optimiser, the activation, the normalisation, the rate?

    Trains networks of several seeds for every cell of a grid of training options. Prints for each cell and layer the
    share, how privileged the basis is, and the accuracy, then contrasts of each level with the first one of its
    factor, paired by seed, with intervals over networks (docs/evolve.md).

    Cells are steps of a study in FOLDER: after an interruption of any kind the same command goes on, here or on the
    workers of a Dask scheduler. A network that diverges is left out and counted.

    \b
    basiscli compare --vary optimizer=sgd,adamw --vary activation=relu,tanh
    basiscli compare --dataset mnist --width 128 --vary norm=none,batch,layer
    """
    from basiscli.device import placement
    from basiscli.experiments.figures import drawn_at_end
    from basiscli.files import kinds
    from basiscli.study import comparison, estimates, execution, steps

    options.require_pairs(chosen["seeds"])
    jobs = jobs_here(jobs, scheduler)
    planned = [placed(step, device, precision) for step in _steps(context, factors)]
    folder = Path(out or f"runs/{Path(chosen['dataset']).stem}-{chosen['model']}-compare").absolute()
    if dry_run:
        with placement.using(device, precision):
            records.emit(estimates.of_steps(planned, parse, steps.reasons(folder, planned)), style, DRY_COLUMNS)
        return
    if plot:
        kinds.require_target(plot, kinds.FIGURE, force)
    if scheduler is None:
        with placement.using(device, precision):  # raise a fault of the device now, not once for each step
            pass
    steps.prepare(folder, "compare", f"# {records.command_line()}\n", planned)
    with ending_at_once():
        outcomes = execution.run_steps(folder, planned, jobs, scheduler)
    results = comparison.compare(folder, planned)
    drawn = drawn_at_end(results, "comparison.comparison_figure", plot, force)
    records.emit(drawn, style, row=_row, words=comparison.sentences)
    execution.require_success(folder, outcomes)


def _steps(context: click.Context, given: list[tuple[str, tuple[str, ...]]]) -> list:
    """Return a step for each cell. Raises UsageError for factors that do not make a grid."""
    from basiscli.experiments.training import TrainingJob
    from basiscli.study import comparison
    from basiscli.study.plan import seed_text, words

    factors = dict(given)
    if len(factors) < len(given):
        raise click.UsageError("--vary: give all levels of a factor at once")
    both = [name for name in factors if _given(context, name.replace("-", "_"))]
    if both:
        raise click.UsageError(f"--{both[0]} is a factor of the grid: name its levels in --vary alone")
    shared = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in context.params.items()
        if name in (training_options.TRAINING.keys() - NOT_TRAINS) | set(SHARED) and _given(context, name)
    }
    if "seeds" in shared:
        shared["seeds"] = seed_text(shared["seeds"])
    if Path(context.params["dataset"]).suffix:  # the steps run in a folder of their own
        shared["dataset"] = str(Path(context.params["dataset"]).absolute())
    try:
        comparison.require_factors(factors, parse)
    except ValueError as error:
        raise click.UsageError(f"--vary {error}") from error
    planned = comparison.steps_of(factors, words(shared), {})
    for step in planned:
        with usage():
            TrainingJob.of(parse("evolve", step.words[1:])).require_consistent()
    return planned


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == ParameterSource.COMMANDLINE


def _row(record: Mapping) -> dict:
    """Return the row of a table, for 80 columns, of means over layers: a cell's values, or the rises of a contrast."""
    if record["layer"] not in (None, "all"):
        return {}
    rise = "_rise" if record["factor"] else ""
    scores = {name: records.interval(record, name + rise, digits=2) for name in ("share", "privilege")}
    return {"cell": record["name"]} | scores | {"accuracy": record[f"test_accuracy{rise}"]}
