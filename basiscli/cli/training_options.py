"""The options of training, shared by `train` and the sweeps."""

from collections.abc import Callable, Collection

import click

from basiscli.cli.help import of_network, of_output, of_start, of_training
from basiscli.cli.options import NOT_NEGATIVE, POSITIVE, together
from basiscli.cli.types import Choice, EpochList, Finite, Layout, SeedList, Streams, Width, Widths

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
    of_network(
        "--depth",
        type=POSITIVE,
        help="Of mlp: hidden layers [default: 3]; vgg: 11 or 16 [11]; resnet: 6n+2 [20]; wideresnet: 6n+4 [16].",
    ),
    of_network("--hidden", type=Widths(), help="Of mlp: units of the hidden layers one by one."),
    of_network("--layout", type=Layout(), help="Of convnet, vgg: channels of 3x3 convolutions and pools, 64,pool,128."),
    of_network("--pooling", type=Choice("basiscli.nn.models:POOLINGS"), help="Of convnet, vgg.  [default: max]"),
    of_network(
        "--shortcut",
        type=Choice("basiscli.nn.models:SHORTCUTS", case_sensitive=False),
        help="Of resnet, where the shape changes: A subsamples and pads with 0, B is a 1x1 convolution.  [default: A]",
    ),
    of_network(
        "--dropout",
        type=Finite(0, 1, max_open=True),
        help="Of wideresnet: rate between a block's convolutions.  [default: 0]",
    ),
    of_network("--activation", type=Choice("basiscli.nn.models:ACTIVATIONS"), default="relu", show_default=True),
    of_network(
        "--norm", type=Choice("basiscli.nn.builder:NORMS"), help="[default: none for mlp and convnet, else batch]"
    ),
    of_network(
        "--channels",
        type=Choice("basiscli.data.axes:CHANNELS"),
        help="Of images in a file: their axis.  [default: told by the shapes]",
    ),
    click.option("--seeds", type=SeedList(), default="1", show_default=True, help="5 (for 0 to 4), 3-7, or 0,2,9."),
    click.option(
        "--epochs",
        type=click.IntRange(min=0),
        help="0 writes the initial networks.  [default: 10; 100 for convolutional models on CIFAR]",
    ),
    of_training("--batch-size", type=POSITIVE, help="[default: 64 on digits, else 128]"),
    of_training("--optimizer", type=Choice("basiscli.training.optim:SLOTS"), default="sgd", show_default=True),
    of_training("--lr", type=Finite(min=0, min_open=True), help="[default: see docs/models.md]"),
    of_training("--momentum", type=Finite(0, 1, max_open=True), default=0.9, show_default=True, help="Of sgd."),
    of_training("--nesterov", is_flag=True, help="Nesterov's momentum."),
    of_training(
        "--weight-decay",
        type=NOT_NEGATIVE,
        help="On matrices and kernels, not on biases and norms.  [default: see docs/models.md]",
    ),
    of_training(
        "--schedule",
        type=Choice("basiscli.training.optim:SCHEDULES"),
        default="cosine",
        show_default=True,
        help="Of the learning rate; step divides it by 10 after 1/2 and 3/4 of the run.",
    ),
    of_training("--warmup", type=NOT_NEGATIVE, default=0.0, show_default=True, help="Epochs of linear warm-up."),
    of_training("--clip", type=Finite(min=0, min_open=True), help="Bound on each network's gradient norm."),
    of_training("--label-smoothing", type=Finite(0, 1, max_open=True), default=0.0, show_default=True),
    of_training(
        "--augment",
        metavar="LIST",
        help="Some of shift (by up to a pixel) or crop (by up to an eighth of the side), flip, cutout, such as"
        " crop,flip; all-shifts (every image in all nine shifts by at most a pixel, each epoch); or none.  [default:"
        " all-shifts on digits, crop,flip on CIFAR unless mlp, shift on other named sets, none on paths]",
    ),
    of_training(
        "--vary",
        type=Streams(),
        default="init,order,augment",
        show_default=True,
        help="Random streams that differ from seed to seed; the others are those of seed 0.",
    ),
    of_start("--start-from", metavar="DONOR.h5", help="Take initial weights from this network."),
    of_start("--start-weights", metavar="GLOB", multiple=True, help="Which weights to take.  [default: all]"),
    of_start(
        "--freeze", metavar="GLOB", multiple=True, help="Weights that keep their initial values, such as 'hidden1/*'."
    ),
    of_start(
        "--donor", metavar="DONOR.h5", help="The network of the same architecture from which --freeze-prefix copies."
    ),
    of_start(
        "--freeze-prefix",
        type=POSITIVE,
        metavar="K",
        help="Layers 1 to K of every seed are copied from the donor and frozen (docs/frozen.md).",
    ),
    of_start("--start-only", is_flag=True, help="Copy layers 1 to K from the donor, but train them."),
    of_output("--out", metavar="FOLDER", help="Where the files go.  [default: runs/DATASET-MODEL]"),
    of_output("--resume", is_flag=True, help="Go on with unfinished networks in the folder, and keep finished ones."),
    of_output("--force", is_flag=True, help="Overwrite networks in the folder."),
    of_training(
        "--checkpoint-every",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Epochs between checkpoints, which are at least 3 s apart; 0: only at the end.",
    ),
    of_training(
        "--keep",
        type=EpochList(),
        default="",
        metavar="EPOCHS|log",
        help="Also write the networks as they are after these epochs, 0 for the start: 0,5 writes seed0-epoch0.h5 and"
        " seed0-epoch5.h5 beside seed0.h5, which is the last epoch. log stands for 0,1,2,4,8 and so on.",
    ),
    of_training("--seed-batch", type=POSITIVE, help="Seeds to train at once.  [default: as many as memory allows]"),
    of_training(
        "--activations/--no-activations",
        default=None,
        help="Store hidden activations of the test images.  [default: if they take 100 MB a network or less]",
    ),
)


def _name(option: Callable) -> str:
    """Return the parameter name of an option."""
    return click.command()(option(lambda: None)).params[0].name


TRAINING = {_name(option): option for option in _TRAINING}


# Options of training that sweeps set themselves or describe in their own words.
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
        "keep",
    }
)


def training(without: Collection[str] = ()) -> Callable:
    """Return the options of training except those named in `without`."""
    return together(*(option for name, option in TRAINING.items() if name not in without))
