"""Building a network: the builder appends nodes one by one and names the layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from types import ModuleType

from basiscli.errors import BadInput
from basiscli.nn.graph import INPUT, Layer, Network
from basiscli.nn.ops import (
    add,
    batchnorm,
    convolution,
    dense,
    dropout,
    flatten,
    global_pool,
    layernorm,
    max_pool,
    pointwise,
)
from basiscli.nn.ops.node import Node

NORMS = ("none", "batch", "layer")


def channels(base: int, width: float) -> int:
    """Return base x width. Raises BadInput if the product is no whole number from 1 on."""
    units = base * width
    if units < 1 or not float(units).is_integer():
        raise BadInput(f"a width of {width:g} makes {units:g} channels of {base}: choose one that makes whole channels")
    return int(units)


@dataclass
class NetworkBuilder:
    """A list of nodes under construction. The next node reads the node `last`."""

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
        """Append a node with outputs of `shape`. It reads the last node, and the nodes in `also`."""
        inputs = (self.last.name, *(node.name for node in also))
        self.last = Node(name, op, inputs, options or {}, weights or {}, tuple(shape))
        self.nodes.append(self.last)

    def dense(self, name: str, units: int, gain: float) -> None:
        self.append(name, dense, (units,), weights=dense.weights(self.last.shape[-1], units, gain))

    def convolution(
        self,
        name: str,
        units: int,
        kernel: int = 3,
        stride: int = 1,
        gain: float | None = None,
        padding: int | None = None,
        bias: bool | None = None,
    ) -> None:
        """Append a convolution. Padding None keeps the size at stride 1; bias None is left out before a normalisation.

        Raises BadInput for a kernel that is larger than the padded image.
        """
        *sides, inputs = self.last.shape
        padding = kernel // 2 if padding is None else padding
        bias = self.norm == "none" if bias is None else bias
        shape = *((side + 2 * padding - kernel) // stride + 1 for side in sides), units
        if min(shape) < 1:
            raise BadInput(f"{name}: a kernel of {kernel} is larger than the image of {sides[0]}x{sides[1]}")
        weights = convolution.weights(kernel, inputs, units, gain or self.gain, bias)
        self.append(name, convolution, shape, {"stride": stride, "padding": padding}, weights)

    def layer(self, name: str) -> None:
        """Append the normalisation and φ of the last map, whose name this is, and make the result a layer."""
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
        """Append a pool that halves the sides of the image."""
        height, width, units = self.last.shape
        if height % 2 or width % 2:
            raise BadInput(
                f"{name} cannot halve {height}x{width} (images of {self.input_shape[0]}x{self.input_shape[1]}): "
                "choose a `layout` with fewer pools"
            )
        if op is max_pool:
            self.max_pool(name, 2, 2, 0)
        else:
            self.append(name, op, (height // 2, width // 2, units), {"size": 2})

    def max_pool(self, name: str, size: int, stride: int, padding: int) -> None:
        """Append the maximum over windows of size x size positions. What does not fill a window is left out."""
        *sides, units = self.last.shape
        pooled = [(side + 2 * padding - size) // stride + 1 for side in sides]
        if min(pooled) < 1:
            raise BadInput(f"{name}: its windows of {size}x{size} are larger than the image of {sides[0]}x{sides[1]}")
        self.append(name, max_pool, (*pooled, units), {"size": size, "stride": stride, "padding": padding})

    def dropout(self, name: str, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate}")
        if rate:
            self.append(name, dropout, self.last.shape, {"rate": rate}, dropout.weights())

    def add(self, name: str, branch: Node) -> None:
        """Append the sum of a branch and the last node. Both have the same shape."""
        self.append(name, add, branch.shape, also=(branch,))

    def branch_gain(self, blocks: int) -> float:
        """Return the gain of a residual branch's last map.

        Without normalisation every block would double the variance. With 1 / blocks of the variance in each branch, the
        variance of the whole network grows by e at most.
        """
        return self.gain / sqrt(blocks) if self.norm == "none" else self.gain

    def network(self, model: str, classes: int, **choices) -> Network:
        """Append a mean over positions, where positions exist, and the map to the logits. Return the network."""
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
