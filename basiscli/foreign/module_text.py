"""The PyTorch program of a network: nn.Sequential for a plain stack, else a class that walks the graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from basiscli.files import kinds
from basiscli.foreign.arrays import Axes
from basiscli.nn.graph import INPUT, Network
from basiscli.nn.ops import (
    add,
    average_pool,
    batchnorm,
    convolution,
    dropout,
    fixed_map,
    flatten,
    global_pool,
    layernorm,
    max_pool,
    pointwise,
    subsample,
)  # fmt: skip
from basiscli.nn.ops.node import Node

MODULES = {"relu": "nn.ReLU()", "gelu": "nn.GELU()", "tanh": "nn.Tanh()", "linear": "nn.Identity()"}
FUNCTIONS = {"relu": "F.relu({x})", "gelu": "F.gelu({x})", "tanh": "torch.tanh({x})", "linear": "{x}"}
HEAD = (
    kinds.MODULE_LINE
    + '''. net.load_state_dict(safetensors.torch.load_file(PATH)) gives it its weights.

{images}
"""

import torch
import torch.nn.functional as F
from torch import nn

'''
)
CLASS = """
MODULES = {{
{modules}
}}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for name, module in MODULES.items():
            *path, last = name.split(".")
            place = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            place.add_module(last, module())

    def forward(self, x):
        m = self.get_submodule
{lines}


net = Net()
"""


def program(
    axes: Axes, places: Mapping[str, str], tensors: Mapping[str, np.ndarray], preprocessing: Mapping[str, Any]
) -> str:
    """Return the program whose `net` takes the tensors of an export. places: the module of each node with weights."""
    network = axes.network
    mean, deviation = (", ".join(f"{value:.6g}" for value in preprocessing[name]) for name in ("mean", "std"))
    images = (
        f"It sees images (N, C, H, W) of {'x'.join(map(str, network.architecture['input_shape']))} (H, W, C): pixels\n"
        f"divided by {preprocessing['divisor']:g}, minus ({mean}), divided by ({deviation})."
    )
    head = HEAD.format(images=images)
    stack = _stack(network, places, tensors)
    if stack is not None:
        return head.replace("import torch\nimport torch.nn.functional as F\n", "") + stack
    modules = [
        f'    "{places[node.name]}": lambda: {_constructor(node, places, tensors)},'
        for node in network.nodes
        if node.name in places
    ]
    return head + CLASS.format(modules="\n".join(modules), lines="\n".join(_lines(axes, places)))


def _stack(network: Network, places: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str | None:
    """Return the lines of nn.Sequential, None if the network is no stack or its names are not numbers in order."""
    names = [INPUT, *(node.name for node in network.nodes)]
    if any(node.inputs != (before,) for before, node in zip(names, network.nodes, strict=False)):
        return None
    lines: list[str] = []
    for node in network.nodes:
        if node.name in places:
            number = places[node.name]
            if not number.isdecimal() or int(number) < len(lines):
                return None
            lines += ["nn.Identity()"] * (int(number) - len(lines))
        lines += _modules(network, node, places, tensors)
    return "net = nn.Sequential(\n" + "".join(f"    {line},\n" for line in lines) + ")\n"


def _modules(network: Network, node: Node, places: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the modules that stand for a node in nn.Sequential."""
    options = node.options
    if node.name in places:
        return [_constructor(node, places, tensors)]
    if node.op is pointwise:
        return [MODULES[options["function"]]]
    if node.op is max_pool:
        return [f"nn.MaxPool2d({options['size']}, {options['stride']}, {options['padding']})"]
    if node.op is average_pool:
        return [f"nn.AvgPool2d({options['size']})"]
    if node.op is dropout:
        return [f"nn.Dropout({options['rate']:g})"]
    if node.op is flatten:
        return ["nn.Flatten()"]
    flattened = any(other.op is flatten and node.name in other.inputs for other in network.nodes)
    return ["nn.AdaptiveAvgPool2d(1)", *([] if flattened else ["nn.Flatten()"])]


def _constructor(node: Node, places: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    """Return the expression that makes the module of a node with weights."""
    module = places[node.name]
    shape = tensors[f"{module}.weight"].shape
    bias = "" if f"{module}.bias" in tensors else ", bias=False"
    if node.op is batchnorm:
        return f"nn.BatchNorm{'2d' if len(node.shape) == 3 else '1d'}({shape[0]})"
    if node.op is layernorm:
        return f"nn.LayerNorm({shape[0]})"
    if node.op is convolution:
        sides = f"stride={node.options['stride']}, padding={node.options['padding']}"
        return f"nn.Conv2d({shape[1]}, {shape[0]}, {shape[2]}, {sides}{bias})"
    if node.op is fixed_map and len(shape) == 4:
        return f"nn.Conv2d({shape[1]}, {shape[0]}, 1{bias})"
    return f"nn.Linear({shape[1]}, {shape[0]}{bias})"


def _lines(axes: Axes, places: Mapping[str, str]) -> list[str]:
    """Return the lines of `forward`, one for each node."""
    variables = {INPUT: "x"}
    lines = []
    for i, node in enumerate(axes.network.nodes):
        variables[node.name] = f"x{i}"
        inputs = [variables[name] for name in node.inputs]
        value = f'm("{places[node.name]}")({inputs[0]})' if node.name in places else _expression(axes, node, inputs)
        lines.append(f"        x{i} = {value}")
    return [*lines, f"        return {variables[axes.network.nodes[-1].name]}"]


def _expression(axes: Axes, node: Node, inputs: Sequence[str]) -> str:
    """Return the expression of a node without weights."""
    x, options = inputs[0], node.options
    if node.op is subsample:
        before = {other.name: other.shape for other in axes.network.nodes}[node.inputs[0]][-1]
        first = (options["units"] - before) // 2 if axes.centred else 0
        zeros = f"(0, 0, 0, 0, {first}, {options['units'] - before - first})"
        return f"F.pad({x}[:, :, ::{options['stride']}, ::{options['stride']}], {zeros})"
    if node.op is pointwise:
        return FUNCTIONS[options["function"]].format(x=x)
    if node.op is max_pool:
        return f"F.max_pool2d({x}, {options['size']}, {options['stride']}, {options['padding']})"
    if node.op is dropout:
        return f"F.dropout({x}, {options['rate']:g}, self.training)"
    return {
        add: " + ".join(inputs),
        average_pool: f"F.avg_pool2d({x}, {options.get('size')})",
        global_pool: f"{x}.mean((2, 3))",
        flatten: f"{x}.flatten(1)",
    }[node.op]
