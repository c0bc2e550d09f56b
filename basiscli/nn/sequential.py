"""A plain stack of maps, normalisations, nonlinearities and pools in any order, such as PyTorch's nn.Sequential.

Only imported networks are of this model (docs/import.md): no option of `train` describes it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod

from basiscli.errors import BadInput
from basiscli.nn.builder import NetworkBuilder
from basiscli.nn.graph import INPUT, Network
from basiscli.nn.ops import average_pool, batchnorm, flatten, global_pool, layernorm

OUTPUT = "output"
LARGEST_WINDOW = 15


def sequential(
    input_shape: Sequence[int], classes: int, parts: Sequence[Mapping], activation: str = "relu", norm: str = "none"
) -> Network:
    """Return the network of parts, one after the other. The last part is a dense map with `classes` units.

    A part is a dict: `op`, and its options (`PARTS` has all). {"op": "convolution", "units", "kernel", "stride",
    "padding", "bias"}; {"op": "dense", "units"}; {"op": "activation"}, which is `activation`; batchnorm, layernorm,
    flatten, global_pool; {"op": "max_pool", "size", "stride", "padding"}; {"op": "average_pool", "size"}; {"op":
    "dropout", "rate"}. Maps are conv1, conv2, ..., hidden1, ..., and output; what follows a map has its name, and
    every activation makes the layer of that name. norm says nothing here: parts say where normalisations are.

    Raises BadInput for parts that do not fit each other or the image.
    """
    builder = NetworkBuilder(tuple(input_shape), activation, "none")
    if not parts or parts[-1]["op"] != "dense" or parts[-1]["units"] != classes:
        raise BadInput(f"a network that does not end in a dense map with an output for each of {classes} classes")
    counts = {"convolution": 0, "dense": 0}
    place = INPUT
    for i, part in enumerate(parts):
        options = {name: value for name, value in part.items() if name != "op"}
        if part["op"] in counts:
            counts[part["op"]] += 1
            place = _name(part["op"], counts[part["op"]], i == len(parts) - 1)
            name = place
        else:
            name = _unused(builder, f"{place}/{part['op']}")
        _require_axes(builder, part["op"], name)
        PARTS[part["op"]](builder, name, **options)
    description = {
        "model": "sequential", "input_shape": list(input_shape), "classes": classes,
        "parts": [dict(part) for part in parts], "activation": activation, "norm": norm,
    }  # fmt: skip
    return Network(description, tuple(builder.nodes), builder.layers)


def part_names(parts: Sequence[Mapping], nodes: Sequence[str]) -> list[str]:
    """Return the node of each part of a sequential network, from the names of its nodes in order.

    Dropout of rate 0 has no node; its part stands for the node before.
    """
    following, names = iter(nodes), [INPUT]
    for part in parts:
        skipped = part["op"] == "dropout" and not part["rate"]
        names.append(names[-1] if skipped else next(following))
    return names[1:]


def _name(op: str, number: int, last: bool) -> str:
    return OUTPUT if last else f"{'conv' if op == 'convolution' else 'hidden'}{number}"


def _unused(builder: NetworkBuilder, name: str) -> str:
    """Return a name, with a number if a node has it already."""
    return _free(name, "", {node.name for node in builder.nodes})


def _free(name: str, joint: str, taken: Collection[str]) -> str:
    return next(n for n in (name, *(f"{name}{joint}{k}" for k in range(2, len(taken) + 3))) if n not in taken)


def _require_axes(builder: NetworkBuilder, op: str, name: str) -> None:
    """Raise BadInput for a part that needs an image after the image was flattened, or a vector before that."""
    flat = len(builder.last.shape) == 1
    if flat and op in ("convolution", "max_pool", "average_pool", "global_pool"):
        raise BadInput(
            f"{name}: needs an image, and reads {builder.last.shape[0]} values; put it before the flattening"
        )
    if not flat and op == "dense":
        raise BadInput(f"{name}: reads an image {builder.last.shape}; flatten it, or take the mean, before")


def _activation(builder: NetworkBuilder, name: str) -> None:
    """Append φ, and make it the layer of the map before; a second φ of a map is the layer MAP-2."""
    place = name.rpartition("/")[0]
    if builder.last.op is flatten or place == INPUT:
        raise BadInput(f"{name}: put the nonlinearity after a map, and before a flattening (it gives the same values)")
    builder.activate(_free(place, "-", builder.layers))


def _flatten(builder: NetworkBuilder, name: str) -> None:
    builder.append(name, flatten, (prod(builder.last.shape),))


def _global_pool(builder: NetworkBuilder, name: str) -> None:
    builder.append(name, global_pool, builder.last.shape[-1:])


def _average_pool(builder: NetworkBuilder, name: str, size: int) -> None:
    height, width, units = builder.last.shape
    if size < 1 or height % size or width % size:
        raise BadInput(f"{name}: windows of {size}x{size} do not divide {height}x{width}")
    builder.append(name, average_pool, (height // size, width // size, units), {"size": size})


def _max_pool(builder: NetworkBuilder, name: str, size: int, stride: int, padding: int) -> None:
    if not 1 <= size <= LARGEST_WINDOW or stride < 1 or not 0 <= padding <= size // 2:
        raise BadInput(
            f"{name}: windows of {size}, stride {stride}, padding {padding}: sizes go to {LARGEST_WINDOW}, padding to "
            "half of the size"
        )
    builder.max_pool(name, size, stride, padding)


def _convolution(
    builder: NetworkBuilder, name: str, units: int, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    if min(units, kernel, stride) < 1 or padding < 0:
        raise BadInput(f"{name}: {units} units, kernel {kernel}, stride {stride}, padding {padding}")
    builder.convolution(name, units, kernel, stride, padding=padding, bias=bias)


def _normalise(op) -> Callable:
    def append(builder: NetworkBuilder, name: str) -> None:
        builder.append(name, op, builder.last.shape, weights=op.weights(builder.last.shape[-1]))

    return append


# What appends each op; the parameters after the name are the options of the part.
PARTS: dict[str, Callable] = {
    "convolution": _convolution,
    "dense": lambda builder, name, units: builder.dense(name, units, builder.gain if name != OUTPUT else 1.0),
    "activation": _activation,
    "batchnorm": _normalise(batchnorm),
    "layernorm": _normalise(layernorm),
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_pool": _global_pool,
    "flatten": _flatten,
    "dropout": NetworkBuilder.dropout,
}
