"""The architectures (docs/models.md): functions that return a network. `build` makes a network from its description.

Images are (H, W, C), units last. `width` multiplies every number of channels. A layer is a nonlinearity and the map
before it, and has the name of the map: stem, conv1, block1/conv1. A layer after the addition of a residual branch is
block1/sum.
"""

from collections.abc import Callable, Sequence
from inspect import signature
from math import prod

from basiscli.errors import BadInput
from basiscli.nn.builder import NetworkBuilder, channels
from basiscli.nn.fixed_maps import rotated
from basiscli.nn.graph import Network
from basiscli.nn.ops import (
    average_pool,
    flatten,
    max_pool,
    pointwise,
    subsample,
)

ACTIVATIONS = tuple(pointwise.GAINS)
SHORTCUTS = ("A", "B")
POOL = "pool"
POOLINGS = {"max": max_pool, "average": average_pool}
# A layout lists the channels of 3x3 convolutions, and POOL, which halves the sides of the image. VGG's layouts are from
# Simonyan and Zisserman 2015, without the dense layers (the usual form for 32 x 32). The layout of convnet is ours.
CONVNET = (64, 64, POOL, 128, 128, POOL, 256, 256)
VGG = {
    11: (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    16: (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL),
}
# Channels of the stem and of the three groups of residual blocks, for images of CIFAR's size (He et al. 2016).
GROUPS = (16, 32, 64)
# The deepest network of He et al. 2016. A description with more layers is a mistake.
DEEPEST = 1202


def mlp(
    input_shape: Sequence[int], classes: int, hidden: Sequence[int], activation: str = "relu", norm: str = "none"
) -> Network:
    """Return a multilayer perceptron: flatten, per hidden layer a dense map, a normalisation and φ, then logits.

    The layers are hidden1, hidden2, .... The map to the logits is `output`. input_shape is (H, W, C).
    """
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    builder.append("flatten", flatten, (prod(input_shape),))
    for i, width in enumerate(hidden, 1):
        builder.dense(f"hidden{i}", width, pointwise.GAINS[activation])
        builder.layer(f"hidden{i}")
    return builder.network("mlp", classes, hidden=list(hidden))


def convnet(
    input_shape: Sequence[int],
    classes: int,
    layout: Sequence[int | str] = CONVNET,
    width: float = 1,
    activation: str = "relu",
    norm: str = "none",
    pooling: str = "max",
) -> Network:
    """Return a plain stack: 3 x 3 convolutions, each with a normalisation and φ, and pooling, then a mean, then logits.

    The layers are conv1, conv2, .... Raises BadInput for an image that a pooling cannot halve, and for a width that
    makes no whole number of channels.
    """
    return _stack("convnet", input_shape, classes, layout, width, activation, norm, pooling)


def vgg(
    input_shape: Sequence[int],
    classes: int,
    layout: Sequence[int | str] = VGG[11],
    width: float = 1,
    activation: str = "relu",
    norm: str = "batch",
    pooling: str = "max",
) -> Network:
    """Return a VGG network for small images (Simonyan and Zisserman 2015): a convnet of that layout with BatchNorm."""
    return _stack("vgg", input_shape, classes, layout, width, activation, norm, pooling)


def resnet(
    input_shape: Sequence[int],
    classes: int,
    depth: int = 20,
    width: float = 1,
    activation: str = "relu",
    norm: str = "batch",
    shortcut: str = "A",
) -> Network:
    """Return the residual network for small images of He et al. 2016: 6n + 2 layers, three groups of n blocks.

    Layers are stem, block1/conv1, block1/sum, block2/conv1, .... A block is conv1, norm, φ, conv2, norm, add, φ.
    Where the shape changes, shortcut A subsamples and adds units of 0; shortcut B is a 1 x 1 convolution with
    normalisation. Raises BadInput for another depth and for a width that makes no whole number of channels.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut {shortcut}")
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    builder.convolution("stem", channels(GROUPS[0], width))
    builder.layer("stem")
    blocks = _blocks("resnet", depth, 2, width)
    for i, (units, stride) in enumerate(blocks, 1):
        name, skip = f"block{i}", builder.last
        builder.convolution(f"{name}/conv1", units, stride=stride)
        builder.layer(f"{name}/conv1")
        builder.convolution(f"{name}/conv2", units, gain=builder.branch_gain(len(blocks)))
        builder.normalise(f"{name}/conv2")
        branch = builder.last
        builder.last = skip
        if skip.shape != branch.shape and shortcut == "A":
            builder.append(f"{name}/shortcut", subsample, branch.shape, {"stride": stride, "units": units})
        elif skip.shape != branch.shape:
            builder.convolution(f"{name}/shortcut", units, kernel=1, stride=stride)
            builder.normalise(f"{name}/shortcut")
        builder.add(f"{name}/sum", branch)
        builder.activate(f"{name}/sum")
    return builder.network("resnet", classes, depth=depth, width=width, shortcut=shortcut)


def wideresnet(
    input_shape: Sequence[int],
    classes: int,
    depth: int = 16,
    width: float = 4,
    activation: str = "relu",
    norm: str = "batch",
    dropout: float = 0.0,
) -> Network:
    """Return WRN-depth-width of Zagoruyko and Komodakis 2016: 6n + 4 layers, pre-activation, three groups of n blocks.

    A block is norm, φ, conv1, norm, φ, dropout, conv2, add. Its first norm and φ belong to the layer before the block.
    The layers are stem, block1/conv1, block1/sum, .... The stem has 16 channels at every width. Where shapes change,
    the shortcut is a 1 x 1 convolution of the activations. Raises BadInput for another depth and for a width that makes
    no whole number of channels.
    """
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    builder.convolution("stem", GROUPS[0])
    blocks = _blocks("wideresnet", depth, 4, width)
    for i, (units, stride) in enumerate(blocks, 1):
        name, skip = f"block{i}", builder.last
        builder.layer("stem" if i == 1 else f"block{i - 1}/sum")
        active = builder.last
        builder.convolution(f"{name}/conv1", units, stride=stride)
        builder.layer(f"{name}/conv1")
        builder.dropout(f"{name}/dropout", dropout)
        builder.convolution(f"{name}/conv2", units, gain=builder.branch_gain(len(blocks)))
        branch = builder.last
        if skip.shape == branch.shape:
            builder.last = skip
        else:
            builder.last = active
            builder.convolution(f"{name}/shortcut", units, kernel=1, stride=stride)
        builder.add(f"{name}/sum", branch)
    builder.layer(f"block{len(blocks)}/sum")
    return builder.network("wideresnet", classes, depth=depth, width=width, dropout=dropout)


MODELS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "convnet": convnet,
    "vgg": vgg,
    "resnet": resnet,
    "wideresnet": wideresnet,
}


def build(architecture: dict) -> Network:
    """Return the network of a description such as `Network.architecture`. Raises BadInput if no model fits it."""
    description = dict(architecture)
    try:
        places = description.pop("rotated", {})
        network = MODELS[description.pop("model")](**description)
        return rotated(network, places) if places else network
    except BadInput:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise BadInput(
            f"not an architecture that this version knows: {architecture!s:.200} ({error!s:.200})"
        ) from error


def choices(model: str) -> tuple[str, ...]:
    """Return the names of a model's parameters other than the shape of its input and the number of classes."""
    return tuple(name for name in signature(MODELS[model]).parameters if name not in ("input_shape", "classes"))


def _stack(model, input_shape, classes, layout, width, activation, norm, pooling) -> Network:
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    convolutions = pools = 0
    for part in layout:
        if part == POOL:
            pools += 1
            builder.pool(f"pool{pools}", POOLINGS[pooling])
        else:
            convolutions += 1
            builder.convolution(f"conv{convolutions}", channels(part, width))
            builder.layer(f"conv{convolutions}")
    if not convolutions:
        raise ValueError(f"a layout without a convolution: {layout}")
    return builder.network(model, classes, layout=list(layout), width=width, pooling=pooling)


def _blocks(model: str, depth: int, rest: int, width: float) -> list[tuple[int, int]]:
    """Return (channels, stride) of each block of a network of 6n + rest layers."""
    count, left = divmod(depth - rest, 6)
    if left or not 1 <= count <= DEEPEST // 6:
        raise BadInput(f"`depth` {depth}: {model} has 6n + {rest} layers, such as {6 + rest}, {12 + rest}, {18 + rest}")
    return [
        (channels(base, width), 2 if group and not i else 1) for group, base in enumerate(GROUPS) for i in range(count)
    ]
