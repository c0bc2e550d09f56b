"""`basiscli train`: train networks over seeds."""

import re
from fractions import Fraction

import click

from basiscli.cli import records
from basiscli.cli.commands import device
from basiscli.cli.commands.ranges import Finite


class SeedList(click.ParamType):
    """Seeds: `5` (five of them, 0 to 4), `3-7`, `0,2,9`, or a mixture such as `0,4-6`."""

    name = "seeds"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if re.fullmatch(r"\d+", value):
            seeds = list(range(int(value)))
        else:
            seeds = []
            for part in value.split(","):
                match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
                if not match or (match[2] and int(match[2]) < int(match[1])):
                    self.fail(f"'{value}': write 5 (for 0 to 4), 3-7, or 0,2,9", param, ctx)
                seeds.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
        if not seeds or len(set(seeds)) < len(seeds):
            self.fail(f"'{value}' names {'a seed twice' if seeds else 'no seed'}", param, ctx)
        return tuple(seeds)


class Widths(click.ParamType):
    """Widths of hidden layers: `512,256`."""

    name = "widths"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        parts = value.split(",")
        if not all(re.fullmatch(r"\s*0*[1-9]\d*\s*", part) for part in parts):
            self.fail(f"'{value}': write widths from 1 on, such as 512,256", param, ctx)
        return tuple(map(int, parts))


class Width(click.ParamType):
    """A width: a whole number, a fraction such as `1/4`, or a decimal."""

    name = "width"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if not re.fullmatch(r"\d+(\.\d+)?|\d+/0*[1-9]\d*", value) or not (width := Fraction(value)):
            self.fail(f"'{value}': write a number above 0, such as 4, 0.5 or 1/4", param, ctx)
        return int(width) if width.denominator == 1 else float(width)


class Layout(click.ParamType):
    """A stack of convolutions: `64,pool,128,pool`."""

    name = "layout"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(re.fullmatch(r"0*[1-9]\d*|pool", part) for part in parts) or set(parts) == {"pool"}:
            self.fail(f"'{value}': write channels and pool, such as 64,64,pool,128", param, ctx)
        return tuple(part if part == "pool" else int(part) for part in parts)


class Streams(click.ParamType):
    """A list of random streams: `init,order,augment`, or `none`."""

    name = "streams"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        streams = tuple(part.strip() for part in value.split(",")) if value != "none" else ()
        known = ("init", "order", "augment")
        if unknown := [stream for stream in streams if stream not in known]:
            self.fail(f"'{unknown[0]}' is none of {', '.join(known)}", param, ctx)
        return streams


# The options that some models only have; what each means is said in its help.
OF_MODELS = {
    "hidden": ("mlp",),
    "depth": ("mlp", "vgg", "resnet", "wideresnet"),
    "layout": ("convnet", "vgg"),
    "pooling": ("convnet", "vgg"),
    "shortcut": ("resnet",),
    "dropout": ("wideresnet",),
}
POSITIVE = click.IntRange(min=1)
NOT_NEGATIVE = Finite(min=0)


@click.command()
@click.option("--dataset", default="digits", show_default=True, help="Name (see `basiscli data list`), or a path.")
@click.option(
    "--model",
    type=click.Choice(["mlp", "convnet", "vgg", "resnet", "wideresnet"]),
    default="mlp",
    show_default=True,
    help="See `basiscli models`.",
)
@click.option(
    "--width",
    type=Width(),
    help="Of mlp: units of each hidden layer [default: 64 on digits, else 512]. Of the others: multiplies all channels,"
    " such as 4 or 1/4 [default: 4 for wideresnet, else 1].",
)
@click.option(
    "--depth",
    type=POSITIVE,
    help="Of mlp: hidden layers [default: 3]; vgg: 11 or 16 [11]; resnet: 6n+2 [20]; wideresnet: 6n+4 [16].",
)
@click.option("--hidden", type=Widths(), help="Of mlp: units of the hidden layers one by one.")
@click.option("--layout", type=Layout(), help="Of convnet, vgg: channels of 3x3 convolutions and pools, 64,pool,128.")
@click.option("--pooling", type=click.Choice(["max", "average"]), help="Of convnet, vgg.  [default: max]")
@click.option(
    "--shortcut",
    type=click.Choice(["A", "B"], case_sensitive=False),
    help="Of resnet, where the shape changes: A subsamples and pads with 0, B is a 1x1 convolution.  [default: A]",
)
@click.option(
    "--dropout",
    type=Finite(0, 1, max_open=True),
    help="Of wideresnet: rate between a block's convolutions.  [default: 0]",
)
@click.option("--activation", type=click.Choice(["relu", "gelu", "tanh", "linear"]), default="relu", show_default=True)
@click.option(
    "--norm", type=click.Choice(["none", "batch", "layer"]), help="[default: none for mlp and convnet, else batch]"
)
@click.option("--seeds", type=SeedList(), default="1", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9.")
@click.option(
    "--epochs",
    type=click.IntRange(min=0),
    help="0 writes the networks as they start.  [default: 10; 100 for convolutional models on CIFAR]",
)
@click.option("--batch-size", type=POSITIVE, help="[default: 64 on digits, else 128]")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), default="sgd", show_default=True)
@click.option("--lr", type=Finite(min=0, min_open=True), help="[default: see docs/models.md]")
@click.option("--momentum", type=Finite(0, 1, max_open=True), default=0.9, show_default=True, help="Of sgd.")
@click.option("--nesterov", is_flag=True, help="Nesterov's momentum.")
@click.option(
    "--weight-decay",
    type=NOT_NEGATIVE,
    help="On matrices and kernels, not on biases and norms.  [default: see docs/models.md]",
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine", "step"]),
    default="cosine",
    show_default=True,
    help="Of the learning rate; step divides it by 10 after 1/2 and 3/4 of the run.",
)
@click.option("--warmup", type=NOT_NEGATIVE, default=0.0, show_default=True, help="Epochs of linear warm-up.")
@click.option("--clip", type=Finite(min=0, min_open=True), help="Bound on each network's gradient norm.")
@click.option("--label-smoothing", type=Finite(0, 1, max_open=True), default=0.0, show_default=True)
@click.option(
    "--augment",
    metavar="LIST",
    help="Some of shift (by up to a pixel) or crop (by up to an eighth of the side), flip, cutout, such as crop,flip;"
    " all-shifts (every image in all nine shifts by at most a pixel, each epoch); or none.  [default: all-shifts on"
    " digits, crop,flip on CIFAR unless mlp, shift on other named sets, none on paths]",
)
@click.option(
    "--vary",
    type=Streams(),
    default="init,order,augment",
    show_default=True,
    help="Random streams that differ from seed to seed; the others are those of seed 0.",
)
@click.option("--start-from", metavar="DONOR.h5", help="Take initial weights from this network.")
@click.option("--start-weights", metavar="GLOB", multiple=True, help="Which weights to take.  [default: all]")
@click.option("--freeze", metavar="GLOB", multiple=True, help="Weights that stay as they start, such as 'hidden1/*'.")
@click.option("--donor", metavar="DONOR.h5", help="The network of the same kind that --freeze-prefix copies from.")
@click.option(
    "--freeze-prefix",
    type=POSITIVE,
    metavar="K",
    help="Layers 1 to K are the donor's in every seed, and stay so (docs/frozen.md).",
)
@click.option("--start-only", is_flag=True, help="Layers 1 to K start as the donor's and are trained.")
@click.option("--out", metavar="FOLDER", help="Where the files go.  [default: runs/DATASET-MODEL]")
@click.option("--resume", is_flag=True, help="Go on with what is unfinished in the folder, keep what is finished.")
@click.option("--force", is_flag=True, help="Overwrite networks in the folder.")
@click.option(
    "--checkpoint-every", type=click.IntRange(min=0), default=1, show_default=True, help="Epochs; 0: only at the end."
)
@click.option("--seed-batch", type=POSITIVE, help="Seeds to train at once.  [default: as many as memory allows]")
@click.option(
    "--activations/--no-activations",
    default=None,
    help="Store hidden activations of the test images.  [default: if they take 100 MB a network or less]",
)
@click.option("--dry-run", is_flag=True, help="Say how long and how large the run would be, from a few measured steps.")
@device.options
@records.format_option
def command(style: str | None, **options) -> None:
    """Train networks that differ in their seed, and write one HDF5 file for each.

    Prints a record for each network: path, seed, status, test_accuracy, test_loss, train_loss. Ctrl-C finishes the
    step, saves, and leaves what --resume needs. The same command gives bitwise the same weights on the same machine.

    \b
    basiscli train --seeds 5
    basiscli train --dataset mnist --seeds 5 --out mnist | basiscli correlate -
    basiscli train --dataset cifar10 --model resnet --depth 20 --width 1/2 --seeds 3 --dry-run
    """
    from basiscli.experiments import training

    require_consistent(options)
    if options.pop("dry_run"):
        records.emit(training.dry_run(options), style)
    else:
        records.emit(training.run(options | {"command": records.command_line()}), style)


def require_consistent(options: dict) -> None:
    """Raise UsageError for options that do not go together."""
    _require_fitting(options)
    if options["hidden"] and (options["width"] or options["depth"]):
        raise click.UsageError("--hidden already says the width of each layer: leave out --width and --depth")
    if options["layout"] and options["depth"]:
        raise click.UsageError("--layout already says every layer: leave out --depth")
    if options["resume"] and options["force"]:
        raise click.UsageError("--resume keeps what is there, --force overwrites it: choose one")
    if options["start_weights"] and not options["start_from"]:
        raise click.UsageError("--start-weights chooses from the network that --start-from names")
    if (options["donor"] is None) != (options["freeze_prefix"] is None):
        raise click.UsageError("--donor says whose layers, --freeze-prefix how many: give both")
    if options["start_only"] and not options["donor"]:
        raise click.UsageError("--start-only is about the layers that --donor and --freeze-prefix name")
    if options["nesterov"] and not (options["optimizer"] == "sgd" and options["momentum"]):
        raise click.UsageError("--nesterov needs --optimizer sgd with momentum")


def _require_fitting(options: dict) -> None:
    """Raise UsageError for an option of another model than the one chosen."""
    for name, models in OF_MODELS.items():
        if options[name] is not None and options["model"] not in models:
            raise click.UsageError(f"--{name} is of {', '.join(models)}, not of {options['model']}")
    if options["model"] == "mlp" and isinstance(options["width"], float):
        raise click.UsageError("--width of an mlp is a whole number of units")
