"""`basiscli study`: a whole study from a plan, step by step, here or on the workers of a Dask scheduler."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device

STATUS_COLUMNS = ("step", "status", "seconds", "left", "error")
DRY_COLUMNS = ("step", "networks", "seconds", "memory_mb", "disk_mb")


@click.command(short_help="Train, rotate, correlate, freeze, connect: the whole study, with a report.")
@click.argument("plan", default="digits", metavar="[PLAN]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="[default: runs/study-PLAN]")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Steps at once on this machine.  [default: one a core, up to 2]"
)
@click.option("--scheduler", metavar="ADDRESS", help="Run on the workers of this Dask scheduler (docs/cluster.md).")
@click.option("--dry-run", is_flag=True, help="Say what would run, how long and in how much memory.")
@click.option("--print", "printed", is_flag=True, help="Write the steps as command lines, in an order that works.")
@click.option("--status", is_flag=True, help="Say how far the study has come, step by step.")
@device.asked
@records.format_option
def command(plan, out, jobs, scheduler, dry_run, printed, status, device, precision, style) -> None:
    """Run a study from end to end and write its report.

    PLAN is a shipped plan (digits, mnist, cifar10-small, cifar10-paper), a TOML file (docs/study.md), or the folder of
    a study. The steps are ordinary command lines. The same command goes on where it was stopped, in whatever way, and
    does only what is missing or changed. Prints the four claims with their verdicts; FOLDER/report.html is the report.

    \b
    basiscli study
    basiscli study mnist --dry-run
    basiscli study --status
    basiscli study --print > steps.sh
    """
    from basiscli.device import placement
    from basiscli.study import steps

    if sum((dry_run, printed, status)) > 1:
        raise click.UsageError("--dry-run, --print and --status each say something else: choose one")
    if scheduler and jobs:
        raise click.UsageError("--jobs is for this machine; the workers of a --scheduler say what runs at once")
    jobs = jobs or min(os.cpu_count() or 1, 2)
    name, text, found = _open(plan)
    found = [_placed(step, device, precision) for step in found]
    folder = (out or (Path(plan) if text is None else Path("runs") / f"study-{name}")).absolute()
    if printed:
        for step in found:
            click.echo(step.command)
    elif dry_run:
        from basiscli.study import estimates

        with placement.using(device, precision):
            records.emit(estimates.of_steps(found, parse), style, DRY_COLUMNS)
    elif status:
        records.emit(_states(folder, found, jobs), style, STATUS_COLUMNS)
    else:
        if scheduler is None:
            with placement.using(device, precision):  # said now if it cannot be, not once for each step
                pass
        if text is not None:
            steps.prepare(folder, name, text, found)
        outcomes = _run(folder, found, jobs, scheduler)
        _conclude(folder, outcomes, style)


def parse(name: str, words: Sequence[str]) -> Mapping:
    """Return the parameters of a command line, without running it. Raises ValueError with what is wrong."""
    command = import_module(f"basiscli.cli.commands.{name}").command
    needed = ["x.h5" for argument in command.params if isinstance(argument, click.Argument) and argument.required]
    try:
        return command.make_context(name, [*needed, *words]).params
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error


def _open(plan: str) -> tuple[str, str | None, list]:
    """Return the name, the text and the steps of a plan; the text is None for the folder of a study."""
    from basiscli.study import plan as plans
    from basiscli.study import steps

    if plan not in plans.names() and Path(plan).is_dir():
        name, found = steps.load(Path(plan))
        return name, None, found
    found = plans.load(plan, parse)
    return found.name, found.text, plans.expand(found, parse)


def _placed(step, device: str, precision: str):
    """Return a step that computes where it is asked for; what is the default is not said."""
    command = import_module(f"basiscli.cli.commands.{step.words[0]}").command
    known, words = {option.name: option.default for option in command.params}, list(step.words)
    for name, value in (("device", device), ("precision", precision)):
        if name in known and value != known[name]:
            if (option := f"--{name}") in words:
                del words[words.index(option) : words.index(option) + 2]
            words += [option, value]
    return replace(step, words=tuple(words))


def _run(folder: Path, found: Sequence, jobs: int, scheduler: str | None) -> dict[str, dict]:
    """Run the steps, say on stderr how each went, and return it. Ctrl-C ends the running commands, which save first."""
    from basiscli.study import steps

    outcomes: dict[str, dict] = {}
    executor, slots, threads = _executor(found, jobs, scheduler)
    _note(f"{len(found)} steps in {os.path.relpath(folder)}; whatever stops it, the same command goes on")
    try:
        for step, outcome in steps.walk(folder, found, executor, slots, threads):
            outcomes[step.name] = outcome
            if not outcome.get("reused"):
                left = steps.seconds_left(found, outcomes, slots) if slots else None  # nobody knows how many workers
                _note(f"[{len(outcomes)}/{len(found)}] {_told(step, outcome)}{_remaining(left)}")
    except KeyboardInterrupt:
        _note("interrupted; the running steps save and end, the same command goes on")
        os._exit(130)  # the commands see the end of their stdin and leave; nothing of ours is worth waiting for
    return outcomes


def _executor(found: Sequence, jobs: int, scheduler: str | None) -> tuple:
    """Return who runs a step, how many steps are in hand at once (None: as the workers can), and a step's threads."""
    if scheduler is None:
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(jobs)  # a thread for each running command
        return (lambda step: pool), jobs, max(1, (os.cpu_count() or 1) // jobs)
    from basiscli.study import cluster

    executor = cluster.connect(scheduler)
    if waiting := cluster.unmet(scheduler, found):
        _note(f"no worker of {scheduler} has the resources of {', '.join(waiting)}; they wait for one that does")
    return executor, None, None


def _conclude(folder: Path, outcomes: Mapping[str, Mapping], style: str | None) -> None:
    """Write the report, print the claims, and end with an error if steps failed."""
    from basiscli.errors import BadInput
    from basiscli.study import report, steps

    records.emit(report.write(folder), style, report.COLUMNS)
    _note(f"report: {os.path.relpath(folder)}/report.html")
    if failed := [name for name, outcome in outcomes.items() if outcome["status"] == steps.FAILED]:
        raise BadInput(
            f"{len(failed)} of {len(outcomes)} steps failed: {', '.join(failed)}; see {os.path.relpath(folder)}/logs"
        )


def _states(folder: Path, found: Sequence, jobs: int) -> Iterator[dict]:
    """Yield a record a step, and one of the whole with the remaining time if so many steps run at once."""
    from basiscli.study import steps

    states = {step.name: steps.status(folder, step) for step in found}
    for step in found:
        state = states[step.name]
        running = state["status"] == steps.RUNNING
        seconds = round(time.time() - state["began"], 1) if running else state.get("seconds")
        yield {
            "step": step.name, "status": state["status"], "seconds": seconds, "left": None,
            "tries": state.get("tries"), "error": state.get("error"), "command": step.command,
        }  # fmt: skip
    over = {name: state for name, state in states.items() if state["status"] in (steps.DONE, steps.FAILED)}
    counts = {state: sum(one["status"] == state for one in states.values()) for state in steps.STATES}
    left = steps.seconds_left(found, over, jobs)
    yield {
        "step": f"{len(found)} steps", "status": ", ".join(f"{n} {state}" for state, n in counts.items() if n),
        "seconds": round(sum(state.get("seconds", 0) for state in over.values()), 1),
        "left": None if left is None else round(left, 1), "tries": None, "error": None, "command": None,
    }  # fmt: skip


def _told(step, outcome: Mapping) -> str:
    if outcome["status"] == "done":
        return f"{step.name} {outcome['seconds']:.1f} s"
    return f"{step.name} {outcome['status']}: {outcome['error']}"


def _remaining(seconds: float | None) -> str:
    if not seconds:
        return ""
    minutes, seconds = divmod(round(seconds), 60)
    return f", about {minutes} min {seconds} s left" if minutes else f", about {seconds} s left"


def _note(text: str) -> None:
    print(f"basiscli: {text}", file=sys.stderr, flush=True)
