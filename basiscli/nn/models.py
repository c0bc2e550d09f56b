"""The architectures (docs/models.md): functions that return a network. `build` makes a network from its description.

Images are (H, W, C), units last. `width` multiplies every number of channels. A layer is a nonlinearity and the map
before it, and has the name of the map: stem, conv1, block1/conv1. A layer after the addition of a residual branch is
block1/sum.
"""

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from math import prod

from basiscli.errors import BadInput
from basiscli.nn.builder import NetworkBuilder, channels
from basiscli.nn.fixed_maps import rotated
from basiscli.nn.graph import Network
from basiscli.nn.ops import average_pool, flatten, max_pool, pointwise, subsample
from basiscli.nn.sequential import sequential

ACTIVATIONS = tuple(pointwise.GAINS)
SHORTCUTS = ("A", "B")
BASIC, BOTTLENECK = BLOCKS = ("basic", "bottleneck")
# A bottleneck block has so many times as many channels outside as inside.
EXPANSION = 4
CIFAR_STEM, IMAGENET_STEM = STEMS = ("cifar", "imagenet")
# What the shortcuts of wideresnet read.
ACTIVATED, SUMS = SHORTCUTS_OF = ("activations", "sums")
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
    stage_blocks: Sequence[int] | None = None,
    stage_widths: Sequence[int] = GROUPS,
    block: str = BASIC,
    stem: str = CIFAR_STEM,
) -> Network:
    """Return a residual network of He et al. 2016: a stem, stages of residual blocks, a mean over positions, logits.

    stage_blocks: the blocks of each stage; None: 6n + 2 layers as `depth` says, three stages of n blocks.
    stage_widths: the channels of each stage, times `width`; the stem has those of the first. Every stage but the first
    halves the image in its first block. block: `basic` is conv1, norm, φ, conv2, norm, add, φ; `bottleneck` has a 1 x 1
    convolution, a 3 x 3 (which takes the stride), and a 1 x 1 to four times the channels. stem: `cifar` is a 3 x 3
    convolution; `imagenet` a 7 x 7 of stride 2, then the maximum of 3 x 3 windows of stride 2.

    Layers are stem, block1/conv1, block1/sum, block2/conv1, .... Where the shape changes, shortcut A subsamples and
    adds units of 0; shortcut B is a 1 x 1 convolution with normalisation. Raises BadInput for another depth, for lists
    that do not fit each other, and for a width that makes no whole number of channels.
    """
    if shortcut not in SHORTCUTS or block not in BLOCKS or stem not in STEMS:
        raise ValueError(f"shortcut {shortcut}, block {block}, stem {stem}")
    if stage_blocks is None and len(stage_widths) != len(GROUPS):
        raise BadInput(f"`stage_widths` {_listed(stage_widths)}: say how many blocks each has, with `stage_blocks`")
    counts = [_blocks("resnet", depth, 2)] * len(GROUPS) if stage_blocks is None else list(stage_blocks)
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    _stem(builder, stem, channels(stage_widths[0], width))
    for i, (units, stride) in enumerate(_stages(counts, stage_widths, width), 1):
        name, skip = f"block{i}", builder.last
        (_bottleneck if block == BOTTLENECK else _basic)(builder, name, units, stride, sum(counts))
        branch, builder.last = builder.last, skip
        _shortcut(builder, f"{name}/shortcut", branch.shape, stride, shortcut)
        builder.add(f"{name}/sum", branch)
        builder.activate(f"{name}/sum")
    stages = {"stage_blocks": counts, "stage_widths": list(stage_widths), "block": block, "stem": stem}
    plain = stage_blocks is None and (*stage_widths,) == GROUPS and (block, stem) == (BASIC, CIFAR_STEM)
    own = {"depth": depth} if plain else stages
    return builder.network("resnet", classes, **own, width=width, shortcut=shortcut)


def wideresnet(
    input_shape: Sequence[int],
    classes: int,
    depth: int = 16,
    width: float = 4,
    activation: str = "relu",
    norm: str = "batch",
    dropout: float = 0.0,
    bias: bool = False,
    shortcut_of: str = ACTIVATED,
) -> Network:
    """Return WRN-depth-width of Zagoruyko and Komodakis 2016: 6n + 4 layers, pre-activation, three groups of n blocks.

    A block is norm, φ, conv1, norm, φ, dropout, conv2, add. Its first norm and φ belong to the layer before the block.
    The layers are stem, block1/conv1, block1/sum, .... The stem has 16 channels at every width. Where shapes change,
    the shortcut is a 1 x 1 convolution of the activations, or with `shortcut_of` sums of what the block's first norm
    reads. bias: whether convolutions have a bias. Raises BadInput for another depth and for a width that makes no whole
    number of channels.
    """
    if shortcut_of not in SHORTCUTS_OF:
        raise ValueError(f"shortcut_of {shortcut_of}")
    builder = NetworkBuilder(tuple(input_shape), activation, norm)
    has_bias = bias or norm == "none"
    builder.convolution("stem", GROUPS[0], bias=has_bias)
    blocks = list(_stages([_blocks("wideresnet", depth, 4)] * len(GROUPS), GROUPS, width))
    for i, (units, stride) in enumerate(blocks, 1):
        name, skip = f"block{i}", builder.last
        builder.layer("stem" if i == 1 else f"block{i - 1}/sum")
        active = builder.last
        builder.convolution(f"{name}/conv1", units, stride=stride, bias=has_bias)
        builder.layer(f"{name}/conv1")
        builder.dropout(f"{name}/dropout", dropout)
        builder.convolution(f"{name}/conv2", units, gain=builder.branch_gain(len(blocks)), bias=has_bias)
        branch = builder.last
        if skip.shape == branch.shape:
            builder.last = skip
        else:
            builder.last = active if shortcut_of == ACTIVATED else skip
            builder.convolution(f"{name}/shortcut", units, kernel=1, stride=stride, bias=has_bias)
        builder.add(f"{name}/sum", branch)
    builder.layer(f"block{len(blocks)}/sum")
    # Files of earlier versions do not have the last two.
    more: dict[str, object] = {"bias": True} if bias else {}
    more |= {} if shortcut_of == ACTIVATED else {"shortcut_of": shortcut_of}
    return builder.network("wideresnet", classes, depth=depth, width=width, dropout=dropout, **more)


MODELS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "convnet": convnet,
    "vgg": vgg,
    "resnet": resnet,
    "wideresnet": wideresnet,
}
# Models that networks get by import only.
IMPORTED: dict[str, Callable[..., Network]] = {"sequential": sequential}


def build(architecture: dict) -> Network:
    """Return the network of a description such as `Network.architecture`. Raises BadInput if no model fits it."""
    description = dict(architecture)
    try:
        places = description.pop("rotated", {})
        network = (MODELS | IMPORTED)[description.pop("model")](**description)
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


def _blocks(model: str, depth: int, rest: int) -> int:
    """Return n, the number of blocks of each of three groups, of a network of 6n + rest layers."""
    count, left = divmod(depth - rest, 6)
    if left or not 1 <= count <= DEEPEST // 6:
        raise BadInput(f"`depth` {depth}: {model} has 6n + {rest} layers, such as {6 + rest}, {12 + rest}, {18 + rest}")
    return count


def _stages(counts: Sequence[int], widths: Sequence[int], width: float) -> Iterator[tuple[int, int]]:
    """Yield (channels, stride) of each block of stages with so many blocks and channels."""
    if len(counts) != len(widths) or not all(isinstance(count, int) and count > 0 for count in counts):
        raise BadInput(
            f"`stage_blocks` {_listed(counts)}, `stage_widths` {_listed(widths)}: give one number of each, from 1 on, "
            "for every stage"
        )
    if sum(counts) > DEEPEST:
        raise BadInput(f"`stage_blocks` {_listed(counts)}: more than {DEEPEST} blocks")
    for stage, (count, base) in enumerate(zip(counts, widths, strict=True)):
        for i in range(count):
            yield channels(base, width), 2 if stage and not i else 1


def _listed(numbers: Sequence) -> str:
    return ",".join(map(str, numbers))


def _stem(builder: NetworkBuilder, stem: str, units: int) -> None:
    if stem == CIFAR_STEM:
        builder.convolution("stem", units)
        builder.layer("stem")
    else:
        builder.convolution("stem", units, kernel=7, stride=2)
        builder.layer("stem")
        builder.max_pool("stem/pool", 3, 2, 1)


def _basic(builder: NetworkBuilder, name: str, units: int, stride: int, blocks: int) -> None:
    """Append a branch of two convolutions of 3 x 3."""
    builder.convolution(f"{name}/conv1", units, stride=stride)
    builder.layer(f"{name}/conv1")
    builder.convolution(f"{name}/conv2", units, gain=builder.branch_gain(blocks))
    builder.normalise(f"{name}/conv2")


def _bottleneck(builder: NetworkBuilder, name: str, units: int, stride: int, blocks: int) -> None:
    """Append a branch of convolutions of 1 x 1, 3 x 3 with the stride, and 1 x 1 to EXPANSION times the units."""
    builder.convolution(f"{name}/conv1", units, kernel=1)
    builder.layer(f"{name}/conv1")
    builder.convolution(f"{name}/conv2", units, stride=stride)
    builder.layer(f"{name}/conv2")
    builder.convolution(f"{name}/conv3", EXPANSION * units, kernel=1, gain=builder.branch_gain(blocks))
    builder.normalise(f"{name}/conv3")


def _shortcut(builder: NetworkBuilder, name: str, shape: tuple[int, ...], stride: int, kind: str) -> None:
    """Append what brings the stream to the shape of a branch: nothing where it has this shape."""
    inputs, units = builder.last.shape[-1], shape[-1]
    if stride == 1 and inputs == units:
        return
    if kind == "B":
        builder.convolution(name, units, kernel=1, stride=stride)
        builder.normalise(name)
        return
    if units < inputs:
        raise BadInput(f"{name}: option {kind} adds units, and {units} are fewer than {inputs}; take `shortcut` B")
    builder.append(name, subsample, shape, {"stride": stride, "units": units})
