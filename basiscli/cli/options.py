"""Options that several commands share, as decorators."""

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from pathlib import Path

import click

from basiscli.cli.types import (
    Choice,
    Finite,
    Layout,
    Matches,
    Names,
    Points,
    Positions,
    SeedList,
    Streams,
    Width,
    Widths,
)

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
    """An option whose help says `{names}` for the names that it takes."""

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(context)
        return record and (record[0], record[1].replace("{names}", ", ".join(self.type.choices)))


def require_weights(matches: Sequence[str], from_init: bool) -> None:
    """Raise UsageError for --from-init where no weights are matched."""
    if from_init and not {"weights", "both"} & set(matches):
        raise click.UsageError("--from-init is about weights: give --match weights or --match both, too")


def require_pairs(seeds: Sequence[int]) -> None:
    """Raise UsageError for fewer seeds than a pair of networks needs."""
    if len(seeds) < 2:
        raise click.UsageError("--seeds: pairs of networks need two seeds or more, intervals three")


computed_on = together(
    click.option(
        "--device",
        type=Choice("basiscli.device.placement:DEVICES"),
        default="auto",
        show_default=True,
        help="Where to compute; auto takes a GPU where cupy finds one (docs/gpu.md).",
    ),
    click.option(
        "--precision",
        type=Choice("basiscli.device.placement:PRECISIONS"),
        default="float32",
        show_default=True,
        help="Of the products of maps and convolutions on a GPU (docs/gpu.md).",
    ),
)


def computing(command: Callable) -> Callable:
    """Give a command `--device` and `--precision`, and run it where they say."""

    @wraps(command)
    def run(*arguments, device, precision, **rest):
        from basiscli.device import placement

        with placement.using(device, precision):
            return command(*arguments, **rest)

    return computed_on(run)


moved_dataset = click.option("--dataset", help="Where the networks' data set is now, if it has moved.")


def seeded(what: str) -> Callable:
    """Return the option of a seed for what is drawn."""
    return click.option("--seed", type=WHOLE, default=0, show_default=True, help=what)


def plotted(what: str) -> Callable:
    """Return the option of a figure."""
    return click.option("--plot", type=FILE, metavar="FILE.png", help=what)


def forced(what: str) -> Callable:
    """Return the option that overwrites."""
    return click.option("--force", is_flag=True, help=what)


# Of correlations: which activations.
layers = click.option(
    "--layer",
    "layers",
    multiple=True,
    default=("*",),
    metavar="NAMES",
    help="Which layers: names or globs, with commas or given again; !GLOB leaves out.  [default: all]",
)
tap = click.option(
    "--tap",
    type=Choice("basiscli.files.activations:TAPS"),
    help="After or before the nonlinearity.  [default: post, or what a recorded file holds]",
)
channels = click.option(
    "--channels",
    type=Choice("basiscli.files.arrays:CHANNELS"),
    help="Axis of the units in arrays of other programs.  [default: told by the shapes]",
)
ids = click.option("--ids", metavar="NAME", help="Array that tells a file's samples apart.  [default: ids or labels]")
positions = click.option(
    "--positions",
    type=Positions(),
    default="all",
    show_default=True,
    metavar="all|mean|N",
    help="Of a convolution: every position a row, their mean, or N of them, drawn once.",
)
dead = click.option(
    "--dead",
    type=click.Choice(("zero", "drop")),
    default="zero",
    show_default=True,
    help="A unit without variance correlates zero, or is left out.",
)
correlating = together(tap, positions, dead)


def inputs(name: str, what: str, **more: object) -> Callable:
    """Return the option of the images that networks are shown."""
    return click.option(name, type=Choice("basiscli.files.activations:SPLITS"), help=what, **more)


# Of a sweep over networks that it trains.
swept_seeds = click.option(
    "--seeds", type=SeedList(), default="6", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9."
)
swept_draws = click.option(
    "--draws", type=click.IntRange(min=2), default=20, show_default=True, help="Draws of each pair's rotated null."
)

# Of matching.
restarts = click.option("--restarts", type=POSITIVE, help="Of matching weights (see match).  [default: 8]")
from_init = click.option("--from-init", is_flag=True, help="Match weights minus what they were before training.")


def corrected_on(what: str) -> Callable:
    """Return the option of how many training images corrections look at."""
    return click.option(
        "--correct-on", type=click.IntRange(min=2), default=2000, show_default=True, metavar="N", help=what
    )


walking = together(
    click.option(
        "--match",
        "matches",
        type=Matches("basiscli.alignment.matching:MATCHES"),
        default="none,activations,weights",
        metavar="NAMES",
        help="none, activations, weights, both (weights, from activations on); for interpolate also files that"
        " match wrote.  [default: none,activations,weights]",
    ),
    restarts,
    from_init,
    click.option(
        "--correct",
        "corrected",
        type=Names("basiscli.alignment.corrections:CORRECTIONS"),
        metavar="NAMES",
        help="none, reset-bn (BatchNorm's statistics), repair (mean and deviation of every unit).  [default: none"
        " and reset-bn; without BatchNorm none and repair]",
    ),
    corrected_on("Training images that corrections look at."),
    click.option("--points", type=Points(), default=25, show_default=True, help="Values of λ from 0 to 1, odd."),
    click.option(
        "--split",
        "splits",
        type=Names("basiscli.alignment.interpolation:SPLITS"),
        default="test",
        metavar="NAMES",
        help="Images to evaluate: test, train, or test,train.  [default: test]",
    ),
    click.option("--samples", type=click.IntRange(min=2), metavar="N", help="Of each split.  [default: all]"),
    click.option(
        "--temperature",
        type=Finite(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="Divides the logits.",
    ),
)

_TRAINING = (
    click.option("--dataset", default="digits", show_default=True, help="Name (see `basiscli data list`), or a path."),
    click.option(
        "--model",
        type=Choice("basiscli.nn.models:MODELS"),
        default="mlp",
        show_default=True,
        help="See `basiscli models`.",
    ),
    click.option(
        "--width",
        type=Width(),
        help="Of mlp: units of each hidden layer [default: 64 on digits, else 512]. Of the others: multiplies all"
        " channels, such as 4 or 1/4 [default: 4 for wideresnet, else 1].",
    ),
    click.option(
        "--depth",
        type=POSITIVE,
        help="Of mlp: hidden layers [default: 3]; vgg: 11 or 16 [11]; resnet: 6n+2 [20]; wideresnet: 6n+4 [16].",
    ),
    click.option("--hidden", type=Widths(), help="Of mlp: units of the hidden layers one by one."),
    click.option(
        "--layout", type=Layout(), help="Of convnet, vgg: channels of 3x3 convolutions and pools, 64,pool,128."
    ),
    click.option("--pooling", type=Choice("basiscli.nn.models:POOLINGS"), help="Of convnet, vgg.  [default: max]"),
    click.option(
        "--shortcut",
        type=Choice("basiscli.nn.models:SHORTCUTS", case_sensitive=False),
        help="Of resnet, where the shape changes: A subsamples and pads with 0, B is a 1x1 convolution.  [default: A]",
    ),
    click.option(
        "--dropout",
        type=Finite(0, 1, max_open=True),
        help="Of wideresnet: rate between a block's convolutions.  [default: 0]",
    ),
    click.option("--activation", type=Choice("basiscli.nn.models:ACTIVATIONS"), default="relu", show_default=True),
    click.option(
        "--norm", type=Choice("basiscli.nn.builder:NORMS"), help="[default: none for mlp and convnet, else batch]"
    ),
    click.option("--seeds", type=SeedList(), default="1", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9."),
    click.option(
        "--epochs",
        type=click.IntRange(min=0),
        help="0 writes the networks as they start.  [default: 10; 100 for convolutional models on CIFAR]",
    ),
    click.option("--batch-size", type=POSITIVE, help="[default: 64 on digits, else 128]"),
    click.option("--optimizer", type=Choice("basiscli.training.optim:SLOTS"), default="sgd", show_default=True),
    click.option("--lr", type=Finite(min=0, min_open=True), help="[default: see docs/models.md]"),
    click.option("--momentum", type=Finite(0, 1, max_open=True), default=0.9, show_default=True, help="Of sgd."),
    click.option("--nesterov", is_flag=True, help="Nesterov's momentum."),
    click.option(
        "--weight-decay",
        type=NOT_NEGATIVE,
        help="On matrices and kernels, not on biases and norms.  [default: see docs/models.md]",
    ),
    click.option(
        "--schedule",
        type=Choice("basiscli.training.optim:SCHEDULES"),
        default="cosine",
        show_default=True,
        help="Of the learning rate; step divides it by 10 after 1/2 and 3/4 of the run.",
    ),
    click.option("--warmup", type=NOT_NEGATIVE, default=0.0, show_default=True, help="Epochs of linear warm-up."),
    click.option("--clip", type=Finite(min=0, min_open=True), help="Bound on each network's gradient norm."),
    click.option("--label-smoothing", type=Finite(0, 1, max_open=True), default=0.0, show_default=True),
    click.option(
        "--augment",
        metavar="LIST",
        help="Some of shift (by up to a pixel) or crop (by up to an eighth of the side), flip, cutout, such as"
        " crop,flip; all-shifts (every image in all nine shifts by at most a pixel, each epoch); or none.  [default:"
        " all-shifts on digits, crop,flip on CIFAR unless mlp, shift on other named sets, none on paths]",
    ),
    click.option(
        "--vary",
        type=Streams(),
        default="init,order,augment",
        show_default=True,
        help="Random streams that differ from seed to seed; the others are those of seed 0.",
    ),
    click.option("--start-from", metavar="DONOR.h5", help="Take initial weights from this network."),
    click.option("--start-weights", metavar="GLOB", multiple=True, help="Which weights to take.  [default: all]"),
    click.option(
        "--freeze", metavar="GLOB", multiple=True, help="Weights that stay as they start, such as 'hidden1/*'."
    ),
    click.option("--donor", metavar="DONOR.h5", help="The network of the same kind that --freeze-prefix copies from."),
    click.option(
        "--freeze-prefix",
        type=POSITIVE,
        metavar="K",
        help="Layers 1 to K are the donor's in every seed, and stay so (docs/frozen.md).",
    ),
    click.option("--start-only", is_flag=True, help="Layers 1 to K start as the donor's and are trained."),
    click.option("--out", metavar="FOLDER", help="Where the files go.  [default: runs/DATASET-MODEL]"),
    click.option("--resume", is_flag=True, help="Go on with what is unfinished in the folder, keep what is finished."),
    click.option("--force", is_flag=True, help="Overwrite networks in the folder."),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Epochs, and never sooner than 3 s after the last one; 0: only at the end.",
    ),
    click.option("--seed-batch", type=POSITIVE, help="Seeds to train at once.  [default: as many as memory allows]"),
    click.option(
        "--activations/--no-activations",
        default=None,
        help="Store hidden activations of the test images.  [default: if they take 100 MB a network or less]",
    ),
)


def _name(option: Callable) -> str:
    """Return the name of the parameter that an option is."""
    return click.command()(option(lambda: None)).params[0].name


TRAINING = {_name(option): option for option in _TRAINING}


# Options of training that sweeps set themselves or have in their own words.
SWEPT = frozenset(
    {
        "start_from",
        "start_weights",
        "freeze",
        "donor",
        "freeze_prefix",
        "resume",
        "activations",
        "seeds",
        "out",
        "force",
    }
)


def training(without: Collection[str] = ()) -> Callable:
    """Return the options of training, but for those `without`."""
    return together(*(option for name, option in TRAINING.items() if name not in without))
