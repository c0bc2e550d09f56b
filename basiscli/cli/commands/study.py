"""`basiscli study`: a whole study from a plan, step by step, here or on the workers of a Dask scheduler."""

from pathlib import Path

import click

from basiscli.cli import options, records, streams
from basiscli.cli.help import Command, of_output
from basiscli.cli.planning import ending_at_once, jobs_here, parse, placed

STATUS_COLUMNS = ("step", "status", "seconds", "left", "error", "why", "says")
DRY_COLUMNS = ("step", "networks", "seconds", "memory_mb", "disk_mb", "why")


@click.command(cls=Command, short_help="Train, rotate, correlate, freeze, connect: the whole study, with a report.")
@click.argument("plan", default="digits", metavar="[PLAN]")
@of_output("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="[default: runs/study-PLAN]")
@options.running
@click.option("--dry-run", is_flag=True, help="Show which steps would run, how long, and in how much memory.")
@click.option("--print", "printed", is_flag=True, help="Print the steps as command lines, in an order that works.")
@click.option("--status", is_flag=True, help="Show the progress of the study, step by step.")
@options.computed_on
@records.format_option
def command(plan, out, jobs, scheduler, dry_run, printed, status, device, precision, style) -> None:
    """Run a study from end to end and write its report.

    PLAN is a shipped plan (digits, mnist, cifar10-small, cifar10-paper), a TOML file (docs/study.md), or the folder of
    a study. The steps are ordinary command lines. After an interruption of any kind the same command goes on; it
    runs only steps that are missing or changed. Prints the four claims with their verdicts. The report is
    FOLDER/report.html.

    \b
    basiscli study
    basiscli study mnist --dry-run
    basiscli study --status
    basiscli study --print > steps.sh
    """
    from basiscli.device import placement
    from basiscli.study import execution, steps
    from basiscli.study.expansion import open_study
    from basiscli.study.report import COLUMNS

    if sum((dry_run, printed, status)) > 1:
        raise click.UsageError("--dry-run, --print and --status each say something else: choose one")
    jobs = jobs_here(jobs, scheduler)
    name, text, planned = open_study(plan, parse)
    planned = [placed(step, device, precision) for step in planned]
    folder = (out or (Path(plan) if text is None else Path("runs") / f"study-{name}")).absolute()
    if printed:
        for step in planned:
            streams.write(f"mkdir -p records && {step.command}\n")
    elif dry_run:
        from basiscli.study import estimates

        with placement.using(device, precision):
            records.emit(estimates.of_steps(planned, parse, steps.reasons(folder, planned)), style, DRY_COLUMNS)
    elif status:
        records.emit(steps.states(folder, planned, jobs), style, STATUS_COLUMNS)
    else:
        if scheduler is None:
            with placement.using(device, precision):  # raise a fault of the device now, not once for each step
                pass
        if text is not None:
            steps.prepare(folder, name, text, planned)
        with ending_at_once():
            records.emit(execution.run_study(folder, planned, jobs, scheduler), style, COLUMNS)
