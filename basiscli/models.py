"""The architectures (docs/models.md): functions that return a network, and `build`, which makes one of its description.

Convolutional networks are (H, W, C), units last; `width` multiplies every number of channels. A layer is a
nonlinearity and the map before it, named after the map: stem, conv1, block1/conv1, and block1/sum where a residual
branch is added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from math import prod, sqrt
from types import ModuleType

from basiscli.errors import BadInput
from basiscli.graph import INPUT, Layer, Network
from basiscli.ops import (
    add,
    average_pool,
    batchnorm,
    convolution,
    dense,
    dropout,
    flatten,
    global_pool,
    layernorm,
    max_pool,
    pointwise,
    rotation,
    subsample,
)
from basiscli.ops.node import Node

ACTIVATIONS = tuple(pointwise.GAINS)
NORMS = ("none", "batch", "layer")
SHORTCUTS = ("A", "B")
POOL = "pool"
POOLINGS = {"max": max_pool, "average": average_pool}
# Layouts: numbers of channels of 3x3 convolutions, and POOL, which halves the sides of the image. VGG's are those of
# Simonyan and Zisserman 2015 without the dense layers (the usual form for 32 x 32), convnet's is ours.
CONVNET = (64, 64, POOL, 128, 128, POOL, 256, 256)
VGG = {
    11: (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL),
    16: (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL),
}
# Channels of the stem and of the three groups of residual blocks, for images of CIFAR's size (He et al. 2016).
GROUPS = (16, 32, 64)
# The deepest network of He et al. 2016; a description with more is a mistake.
DEEPEST = 1202


def mlp(
    input_shape: Sequence[int], classes: int, hidden: Sequence[int], activation: str = "relu", norm: str = "none"
) -> Network:
    """Return a multilayer perceptron: flatten, then per hidden layer a dense map, a normalisation and φ, then logits.

    Layers are hidden1, hidden2, ..., the map to the logits is output. input_shape is (H, W, C).
    """
    plan = _Plan(tuple(input_shape), activation, norm)
    plan.append("flatten", flatten, (prod(input_shape),))
    for i, width in enumerate(hidden, 1):
        plan.dense(f"hidden{i}", width, pointwise.GAINS[activation])
        plan.layer(f"hidden{i}")
    return plan.network("mlp", classes, hidden=list(hidden))


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

    Layers are conv1, conv2, .... Raises BadInput for an image that a pooling cannot halve, and for a width that makes
    no whole number of channels.
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
    """Return a VGG network for small images (Simonyan and Zisserman 2015): `convnet` with its layout and BatchNorm."""
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
    Where the shape changes, shortcut A subsamples and adds units of 0, B is a 1 x 1 convolution with normalisation.
    Raises BadInput for another depth and for a width that makes no whole number of channels.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut {shortcut}")
    plan = _Plan(tuple(input_shape), activation, norm)
    plan.convolution("stem", channels(GROUPS[0], width))
    plan.layer("stem")
    blocks = _blocks("resnet", depth, 2, width)
    for i, (units, stride) in enumerate(blocks, 1):
        name, skip = f"block{i}", plan.last
        plan.convolution(f"{name}/conv1", units, stride=stride)
        plan.layer(f"{name}/conv1")
        plan.convolution(f"{name}/conv2", units, gain=plan.branch_gain(len(blocks)))
        plan.normalise(f"{name}/conv2")
        branch = plan.last
        plan.last = skip
        if skip.shape != branch.shape and shortcut == "A":
            plan.append(f"{name}/shortcut", subsample, branch.shape, {"stride": stride, "units": units})
        elif skip.shape != branch.shape:
            plan.convolution(f"{name}/shortcut", units, kernel=1, stride=stride)
            plan.normalise(f"{name}/shortcut")
        plan.add(f"{name}/sum", branch)
        plan.activate(f"{name}/sum")
    return plan.network("resnet", classes, depth=depth, width=width, shortcut=shortcut)


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

    A block is norm, φ, conv1, norm, φ, dropout, conv2, add; its first norm and φ belong to the layer before it. Layers
    are stem, block1/conv1, block1/sum, .... The stem has 16 channels whatever the width. Where the shape changes, the
    shortcut is a 1 x 1 convolution of the activations. Raises BadInput for another depth, and for a width that makes
    no whole number of channels.
    """
    plan = _Plan(tuple(input_shape), activation, norm)
    plan.convolution("stem", GROUPS[0])
    blocks = _blocks("wideresnet", depth, 4, width)
    for i, (units, stride) in enumerate(blocks, 1):
        name, skip = f"block{i}", plan.last
        plan.layer("stem" if i == 1 else f"block{i - 1}/sum")
        active = plan.last
        plan.convolution(f"{name}/conv1", units, stride=stride)
        plan.layer(f"{name}/conv1")
        plan.dropout(f"{name}/dropout", dropout)
        plan.convolution(f"{name}/conv2", units, gain=plan.branch_gain(len(blocks)))
        branch = plan.last
        if skip.shape == branch.shape:
            plan.last = skip
        else:
            plan.last = active
            plan.convolution(f"{name}/shortcut", units, kernel=1, stride=stride)
        plan.add(f"{name}/sum", branch)
    plan.layer(f"block{len(blocks)}/sum")
    return plan.network("wideresnet", classes, depth=depth, width=width, dropout=dropout)


MODELS = {"mlp": mlp, "convnet": convnet, "vgg": vgg, "resnet": resnet, "wideresnet": wideresnet}


def build(architecture: dict) -> Network:
    """Return the network of a description, as `Network.architecture` holds it. Raises BadInput if it is none."""
    description = dict(architecture)
    try:
        places = description.pop("rotated", {})
        network = MODELS[description.pop("model")](**description)
        return rotated(network, places) if places else network
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not an architecture that this version knows: {architecture} ({error})") from error


def rotated(network: Network, places: Mapping[str, str]) -> Network:
    """Return a network with a fixed map y = M x, the identity to begin with, at every place: PLACE/rotation/w.

    {"hidden1": "pre"} puts it after the map of that name, and after a normalisation that alone reads the map;
    {"hidden1": "post"} after the nonlinearity of that layer. Whatever read that node reads M x, the taps of layers too.
    Raises ValueError for what is neither.
    """
    for place, tap in places.items():
        network = _with_map(network, place, rotates(network, place, tap))
    return replace(network, architecture=network.architecture | {"rotated": dict(places)})


def rotates(network: Network, place: str, tap: str) -> Node:
    """Return the node that a fixed map at a place comes after. Raises ValueError if there is none."""
    nodes = {node.name: node for node in network.nodes}
    if tap == "post" and place in network.layers:
        return nodes[network.layers[place].post]
    if tap != "pre" or "w" not in getattr(nodes.get(place), "weights", ()) or place == network.nodes[-1].name:
        raise ValueError(f"nothing to rotate at {place} {tap}")
    readers = [node for node in network.nodes if place in node.inputs]
    return readers[0] if len(readers) == 1 and readers[0].op in (batchnorm, layernorm) else nodes[place]


def choices(model: str) -> tuple[str, ...]:
    """Return what a model leaves open besides the shape of its input and the number of classes."""
    return tuple(name for name in signature(MODELS[model]).parameters if name not in ("input_shape", "classes"))


def channels(base: int, width: float) -> int:
    """Return base x width. Raises BadInput if that is no whole number from 1 on."""
    units = base * width
    if units < 1 or not float(units).is_integer():
        raise BadInput(f"a width of {width:g} makes {units:g} channels of {base}: choose one that makes whole channels")
    return int(units)


@dataclass
class _Plan:
    """Nodes appended one after another; the next one reads `last`."""

    input_shape: tuple[int, ...]
    activation: str
    norm: str
    nodes: list[Node] = field(default_factory=list)
    layers: dict[str, Layer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.input_shape) != 3 or not all(isinstance(n, int) and n > 0 for n in self.input_shape):
            raise ValueError(f"images of shape {self.input_shape}, not (H, W, C)")
        if self.norm not in NORMS:
            raise ValueError(f"norm {self.norm}")
        self.gain = pointwise.GAINS[self.activation]
        self.last = Node(INPUT, flatten, (), shape=self.input_shape)

    def append(self, name: str, op: ModuleType, shape: Sequence[int], options=None, weights=None, also=()) -> None:
        """Append a node that reads the last one (and `also` others) and gives `shape`."""
        inputs = (self.last.name, *(node.name for node in also))
        self.last = Node(name, op, inputs, options or {}, weights or {}, tuple(shape))
        self.nodes.append(self.last)

    def dense(self, name: str, units: int, gain: float) -> None:
        self.append(name, dense, (units,), weights=dense.weights(self.last.shape[-1], units, gain))

    def convolution(self, name: str, units: int, kernel: int = 3, stride: int = 1, gain: float | None = None) -> None:
        """Append a convolution, padded so that stride 1 keeps the size; with a bias unless a normalisation follows."""
        *sides, inputs = self.last.shape
        padding = kernel // 2
        shape = *((side + 2 * padding - kernel) // stride + 1 for side in sides), units
        weights = convolution.weights(kernel, inputs, units, gain or self.gain, bias=self.norm == "none")
        self.append(name, convolution, shape, {"stride": stride, "padding": padding}, weights)

    def layer(self, name: str) -> None:
        """Append the normalisation and φ of the last map, of this name, and make it a layer."""
        self.normalise(name)
        self.activate(name)

    def normalise(self, name: str) -> None:
        op = {"none": None, "batch": batchnorm, "layer": layernorm}[self.norm]
        if op:
            self.append(f"{name}/norm", op, self.last.shape, weights=op.weights(self.last.shape[-1]))

    def activate(self, name: str) -> None:
        pre = self.last
        self.append(f"{name}/{self.activation}", pointwise, pre.shape, {"function": self.activation})
        self.layers[name] = Layer(pre.name, self.last.name, pre.shape[-1])

    def pool(self, name: str, op: ModuleType) -> None:
        height, width, units = self.last.shape
        if height % 2 or width % 2:
            raise BadInput(
                f"{name} cannot halve {height}x{width} (images of {self.input_shape[0]}x{self.input_shape[1]}): "
                "choose a --layout with fewer pools"
            )
        self.append(name, op, (height // 2, width // 2, units), {"size": 2})

    def dropout(self, name: str, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate}")
        if rate:
            self.append(name, dropout, self.last.shape, {"rate": rate}, dropout.weights())

    def add(self, name: str, branch: Node) -> None:
        """Append the sum of a branch and the last node, of one shape."""
        self.append(name, add, branch.shape, also=(branch,))

    def branch_gain(self, blocks: int) -> float:
        """Return the gain of a residual branch's last map.

        Without normalisation every block would double the variance; with 1 / blocks of it the growth is e at most.
        """
        return self.gain / sqrt(blocks) if self.norm == "none" else self.gain

    def network(self, model: str, classes: int, **choices) -> Network:
        """Return the network, with a mean over positions, if there are any, and the map to the logits appended."""
        if len(self.last.shape) == 3:
            self.append("pool", global_pool, self.last.shape[-1:])
        self.dense("output", classes, 1.0)
        architecture = {
            "model": model,
            "input_shape": list(self.input_shape),
            "classes": classes,
            **choices,
            "activation": self.activation,
            "norm": self.norm,
        }
        return Network(architecture, tuple(self.nodes), self.layers)


def _with_map(network: Network, place: str, source: Node) -> Network:
    """Return a network with a fixed map after a node."""
    fixed = Node(
        f"{place}/rotation", rotation, (source.name,), weights=rotation.weights(source.shape[-1]), shape=source.shape
    )

    def renamed(name: str) -> str:
        return fixed.name if name == source.name else name

    nodes = []
    for node in network.nodes:
        nodes.append(replace(node, inputs=tuple(map(renamed, node.inputs))))
        if node.name == source.name:
            nodes.append(fixed)
    layers = {
        name: replace(layer, pre=renamed(layer.pre), post=renamed(layer.post)) for name, layer in network.layers.items()
    }
    return replace(network, nodes=tuple(nodes), layers=layers)


def _stack(model, input_shape, classes, layout, width, activation, norm, pooling) -> Network:
    plan = _Plan(tuple(input_shape), activation, norm)
    convolutions = pools = 0
    for part in layout:
        if part == POOL:
            pools += 1
            plan.pool(f"pool{pools}", POOLINGS[pooling])
        else:
            convolutions += 1
            plan.convolution(f"conv{convolutions}", channels(part, width))
            plan.layer(f"conv{convolutions}")
    if not convolutions:
        raise ValueError(f"a layout without a convolution: {layout}")
    return plan.network(model, classes, layout=list(layout), width=width, pooling=pooling)


def _blocks(model: str, depth: int, rest: int, width: float) -> list[tuple[int, int]]:
    """Return (channels, stride) of each block of a network of 6n + rest layers."""
    count, left = divmod(depth - rest, 6)
    if left or not 1 <= count <= DEEPEST // 6:
        raise BadInput(f"--depth {depth}: {model} has 6n + {rest} layers, such as {6 + rest}, {12 + rest}, {18 + rest}")
    return [
        (channels(base, width), 2 if group and not i else 1) for group, base in enumerate(GROUPS) for i in range(count)
    ]
