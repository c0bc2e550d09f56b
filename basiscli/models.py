"""The architectures: functions that return a network, and `build`, which makes one of its description in a file."""

from collections.abc import Sequence
from math import prod

from basiscli.errors import BadInput
from basiscli.graph import INPUT, Layer, Network
from basiscli.ops import batchnorm, dense, flatten, layernorm, pointwise
from basiscli.ops.node import Node

ACTIVATIONS = tuple(pointwise.GAINS)
NORMS = ("none", "batch", "layer")


def mlp(
    input_shape: Sequence[int], classes: int, hidden: Sequence[int], activation: str = "relu", norm: str = "none"
) -> Network:
    """Return a multilayer perceptron: flatten, then per hidden layer a dense map, a normalisation and φ, then logits.

    Layers are hidden1, hidden2, ..., the map to the logits is output. input_shape is (H, W, C).
    """
    gain = pointwise.GAINS[activation]
    nodes = [Node("flatten", flatten, (INPUT,))]
    layers = {}
    units = prod(input_shape)
    for i, width in enumerate(hidden, 1):
        name = f"hidden{i}"
        nodes.append(Node(name, dense, (nodes[-1].name,), weights=dense.weights(units, width, gain)))
        nodes += _norm(f"{name}/norm", norm, nodes[-1].name, width)
        pre = nodes[-1].name
        nodes.append(Node(f"{name}/{activation}", pointwise, (pre,), {"function": activation}))
        layers[name] = Layer(pre, nodes[-1].name, width)
        units = width
    nodes.append(Node("output", dense, (nodes[-1].name,), weights=dense.weights(units, classes, 1.0)))
    architecture = {
        "model": "mlp",
        "input_shape": list(input_shape),
        "classes": classes,
        "hidden": list(hidden),
        "activation": activation,
        "norm": norm,
    }
    return Network(architecture, tuple(nodes), layers)


MODELS = {"mlp": mlp}


def build(architecture: dict) -> Network:
    """Return the network of a description, as `Network.architecture` holds it. Raises BadInput if it is none."""
    description = dict(architecture)
    try:
        return MODELS[description.pop("model")](**description)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not an architecture that this version knows: {architecture} ({error})") from error


def _norm(name: str, kind: str, source: str, units: int) -> list[Node]:
    op = {"none": None, "batch": batchnorm, "layer": layernorm}[kind]
    return [Node(name, op, (source,), weights=op.weights(units))] if op else []
