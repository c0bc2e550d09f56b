"""Options that several commands share, as decorators."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from basiscli.cli.help import of_activations, of_machine, of_matching, of_output
from basiscli.cli.types import (
    Choice,
    Figure,
    Finite,
    Matches,
    Memory,
    Names,
    Points,
    Positions,
    SeedList,
)

HELP = ["-h", "--help"]
POSITIVE = click.IntRange(min=1)
WHOLE = click.IntRange(min=0)
NOT_NEGATIVE = Finite(min=0)
FILE = click.Path(path_type=Path)


def together(*options: Callable) -> Callable:
    """Return one decorator that adds options in this order."""

    def add(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return add


class NamesOption(click.Option):
    """An option of names. In its help, `{names}` stands for the names that it accepts."""

    type: Names

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(context)
        return record and (record[0], record[1].replace("{names}", ", ".join(self.type.choices)))


def require_weights(matches: Sequence[str], from_init: bool) -> None:
    """Raise UsageError for --from-init if no match is by weights."""
    if from_init and not {"weights", "both"} & set(matches):
        raise click.UsageError("--from-init is about weights: give --match weights or --match both, too")


def require_pairs(seeds: Sequence[int]) -> None:
    """Raise UsageError for fewer than two seeds."""
    if len(seeds) < 2:
        raise click.UsageError("--seeds: pairs of networks need two seeds or more, intervals three")


computed_on = together(
    of_machine(
        "--device",
        type=Choice("basiscli.device.placement:DEVICES"),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes a GPU if cupy finds one (docs/gpu.md).",
    ),
    of_machine(
        "--precision",
        type=Choice("basiscli.device.placement:PRECISIONS"),
        default="float32",
        show_default=True,
        help="Of the products in maps and convolutions on a GPU (docs/gpu.md).",
    ),
)


def computing(command: Callable) -> Callable:
    """Give a command `--device` and `--precision`, and run it on this device in this precision."""

    @wraps(command)
    def run(*arguments, device, precision, **rest):
        from basiscli.device import placement

        with placement.using(device, precision):
            return command(*arguments, **rest)

    return computed_on(run)


moved_dataset = click.option("--dataset", help="Path of the networks' data set, if it has moved.")


def seeded(what: str) -> Callable:
    """Return the option `--seed`, with a help that says what is drawn."""
    return click.option("--seed", type=WHOLE, default=0, show_default=True, help=what)


def plotted(what: str) -> Callable:
    """Return the option `--plot`."""
    return of_output("--plot", type=Figure(), metavar="FILE.png", help=f"{what} Or .svg, .pdf.")


def forced(what: str) -> Callable:
    """Return the option `--force`."""
    return of_output("--force", is_flag=True, help=what)


# Options of correlations: which activations.
layers = of_activations(
    "--layer",
    "layers",
    multiple=True,
    default=("*",),
    metavar="NAMES",
    help="Which layers: names or globs, with commas or given again; !GLOB leaves out.  [default: all]",
)


def tapped(default: str) -> Callable:
    """Return the option `--tap`, with the tap of networks where it is not given."""
    return of_activations(
        "--tap",
        type=Choice("basiscli.files.schema:TAPS"),
        help=f"After or before the nonlinearity.  [default: {default}, or what a recorded file holds]",
    )


tap = tapped("post")
channels = of_activations(
    "--channels",
    type=Choice("basiscli.data.axes:CHANNELS"),
    help="Axis of the units in arrays of other programs.  [default: told by the shapes]",
)
ids = of_activations("--ids", metavar="NAME", help="Array that identifies a file's samples.  [default: ids or labels]")
positions = of_activations(
    "--positions",
    type=Positions(),
    default="all",
    show_default=True,
    metavar="all|mean|N",
    help="Of a convolution: each position is a row, their mean is, or N of them are, drawn once.",
)
dead = of_activations(
    "--dead",
    type=click.Choice(("zero", "drop")),
    default="zero",
    show_default=True,
    help="A unit without variance correlates zero, or is left out.",
)
memory = of_machine(
    "--memory",
    type=Memory(),
    metavar="SIZE",
    help="Work off pairs in blocks that fit: 500M, 4G.  [default: most of the free memory]",
)
correlating = together(tap, positions, dead, memory)


def inputs(name: str, what: str, **more: Any) -> Callable:
    """Return the option of the images that networks run on."""
    return of_activations(name, type=Choice("basiscli.files.activations:SPLITS"), help=what, **more)


# Options of sweeps over networks that the command trains.
swept_seeds = click.option(
    "--seeds", type=SeedList(), default="6", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9."
)
swept_draws = click.option(
    "--draws", type=click.IntRange(min=2), default=20, show_default=True, help="Draws of each pair's rotated null."
)

# Options of commands that measure networks that they train, over epochs or over a grid.
evolving = together(
    click.option("--seeds", type=SeedList(), default="5", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9."),
    inputs("--split", "Images to correlate on.  [default: test-shifts on digits, else test]"),
    swept_draws,
)
evolving_taps = together(
    of_activations(
        "--tap",
        type=Choice("basiscli.files.schema:TAPS"),
        default="pre",
        show_default=True,
        help="Correlate before or after the nonlinearity, which may give units axes of its own.",
    ),
    positions,
    dead,
)

# Options of commands that run the steps of a study.
running = together(
    of_machine("--jobs", type=POSITIVE, help="Steps at once on this machine.  [default: one a core, up to 2]"),
    of_machine("--scheduler", metavar="ADDRESS", help="Run on the workers of this Dask scheduler (docs/cluster.md)."),
)

# Options of matching.
restarts = of_matching("--restarts", type=POSITIVE, help="Of matching weights (see match).  [default: 8]")
from_init = of_matching("--from-init", is_flag=True, help="Match weights minus what they were before training.")


def corrected_on(what: str) -> Callable:
    """Return the option `--correct-on`, the number of training images for corrections."""
    return of_matching(
        "--correct-on", type=click.IntRange(min=2), default=2000, show_default=True, metavar="N", help=what
    )


walking = together(
    of_matching(
        "--match",
        "matches",
        type=Matches("basiscli.alignment.matching:MATCHES"),
        default="none,activations,weights",
        metavar="NAMES",
        help="none, activations, weights, both (weights, starting from activations); for interpolate also files"
        " that match wrote.  [default: none,activations,weights]",
    ),
    restarts,
    from_init,
    of_matching(
        "--correct",
        "corrected",
        type=Names("basiscli.alignment.corrections:CORRECTIONS"),
        metavar="NAMES",
        help="none, reset-bn (BatchNorm's statistics), repair (mean and deviation of every unit).  [default: none"
        " and reset-bn; without BatchNorm none and repair]",
    ),
    corrected_on("Training images for corrections."),
    of_matching("--points", type=Points(), default=25, show_default=True, help="Values of λ from 0 to 1, odd."),
    of_matching(
        "--split",
        "splits",
        type=Names("basiscli.alignment.interpolation:SPLITS"),
        default="test",
        metavar="NAMES",
        help="Images to evaluate: test, train, or test,train.  [default: test]",
    ),
    of_matching("--samples", type=click.IntRange(min=2), metavar="N", help="Of each split.  [default: all]"),
    of_matching(
        "--temperature",
        type=Finite(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="Divides the logits.",
    ),
)
