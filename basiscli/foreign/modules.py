"""PyTorch's modules as text: "Conv2d(3, 16, kernel_size=3, padding=1)" becomes a part of `nn.sequential`, and back.

The text is what PyTorch prints of a network. Options may be left out where they have PyTorch's defaults, and numbers of
units and kernels where the checkpoint tells them.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basiscli.errors import BadInput

ACTIVATIONS = {"ReLU": "relu", "GELU": "gelu", "Tanh": "tanh"}
# The parameters of each module, in PyTorch's order.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    "Conv2d": (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
    ),
    "BatchNorm1d": ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    "BatchNorm2d": ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine", "bias"),
    "ReLU": ("inplace",),
    "GELU": ("approximate",),
    "Tanh": (),
    "MaxPool2d": ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    "AvgPool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "AdaptiveAvgPool2d": ("output_size",),
    "Dropout": ("p", "inplace"),
    "Flatten": ("start_dim", "end_dim"),
    "Identity": (),
}  # fmt: skip
# Options that have one value here.
FIXED = {
    "dilation": 1, "groups": 1, "padding_mode": "zeros", "return_indices": False, "ceil_mode": False, "eps": 1e-5,
    "affine": True, "track_running_stats": True, "elementwise_affine": True, "approximate": "none", "start_dim": 1,
    "end_dim": -1, "divisor_override": None,
}  # fmt: skip


@dataclass(frozen=True)
class Module:
    """A module: its kind, its options by PyTorch's names, and its name in the state dict (None: its place)."""

    kind: str
    options: Mapping[str, Any]
    name: str | None = None


def parse(text: str | Sequence[str]) -> list[Module]:
    """Return the modules of a text with commas between them, or of a list. A module is KIND, KIND(OPTIONS), or NAME:
    KIND(OPTIONS). Raises BadInput for other kinds, and for options that have no counterpart here.
    """
    items = _split(text) if isinstance(text, str) else text
    return [_module(str(item).strip()) for item in items if str(item).strip()]


def pair(value: Any, module: Module, what: str) -> int:
    """Return one number for both sides of an image. Raises BadInput for two numbers that differ."""
    sides = value if isinstance(value, tuple | list) else (value, value)
    if len(set(sides)) == 1 and isinstance(sides[0], int) and not isinstance(sides[0], bool):
        return sides[0]
    raise BadInput(f"`modules` {module.kind}: {what} {value}; only whole numbers, the same for both sides, are known")


def _split(text: str) -> list[str]:
    """Return the parts of a text between commas that lie in no brackets."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _module(text: str) -> Module:
    found = re.fullmatch(r"(?:\(?([\w.]+)\)?\s*:\s*)?(\w+)\s*(\(.*\))?", text, re.S)
    if not found or found[2] not in PARAMETERS:
        raise BadInput(f"`modules` {text[:80]}: no module that is known; there are {', '.join(PARAMETERS)}")
    name, kind, arguments = found.groups()
    try:
        call = ast.parse(f"{kind}{arguments or '()'}", mode="eval").body
        assert isinstance(call, ast.Call)
        given = dict(zip(PARAMETERS[kind], map(ast.literal_eval, call.args), strict=False))
        given |= {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AssertionError, MemoryError, RecursionError) as error:
        raise BadInput(f"`modules` {text[:80]}: cannot be read; write options as PyTorch prints them") from error
    for option, value in given.items():
        if option not in PARAMETERS[kind] or FIXED.get(option, value) not in (value, *_both(value)):
            raise BadInput(f"`modules` {text[:80]}: {option} {value} has no counterpart here")
    return Module(kind, given, name)


def _both(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) and len(set(map(str, value))) == 1 else ()
