"""Plain stacks: nn.Sequential, and torchvision's VGG. A state dict says which maps they have, and little between them.

Without `modules` a stack of Linear layers is understood (one module between two maps is the nonlinearity, two are the
nonlinearity and dropout), and VGG, whose numbers of modules tell where pools lie. Everything else needs the modules.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from basiscli.errors import BadInput
from basiscli.foreign.checkpoints import Tensor, listed
from basiscli.foreign.modules import ACTIVATIONS, Module, pair
from basiscli.foreign.recognition import LEAVES

# The shapes of a module's tensors, by the last part of their names; by module.
Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
EXAMPLE = "such as Conv2d(padding=1),ReLU,MaxPool2d(2),Flatten,Linear (docs/import.md)"
NORMS = ("BatchNorm1d", "BatchNorm2d", "LayerNorm")
HOLDERS = ("Linear", "Conv2d", *NORMS)
FEATURES, CLASSIFIER = "features", "classifier"
# Dropout whose rate the checkpoint does not tell; it does nothing outside of training.
DROPOUT = Module("Dropout", {"p": 0.0})
PHI = Module("ReLU", {})


@dataclass(frozen=True)
class Stack:
    """The parts for `nn.sequential`, and the module of each part in the state dict: None for a part without one."""

    parts: tuple[dict[str, Any], ...]
    modules: tuple[str | None, ...]
    activation: str | None


def recognise_stack(
    path: str, tensors: Mapping[str, Tensor], modules: Sequence[Module] | None = None, prefix: str = ""
) -> Stack:
    """Return the stack of a checkpoint. activation None: the checkpoint does not tell it.

    modules: all modules in order, where the checkpoint does not tell them. prefix: what stands before their names.
    Raises BadInput with the first names that fit no module, and for modules that contradict the tensors.
    """
    found = _found(path, tensors)
    if modules is None:
        named = _vgg(found) or _linear(path, found)
        return _stack(path, found, named, told=False)
    return _stack(path, found, _named(path, found, modules, prefix), told=True)


def _found(path: str, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of the tensors of each module, modules in their natural order."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    strange = []
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        if module and leaf in LEAVES:
            found.setdefault(module, {})[leaf] = tensors[name].shape
        else:
            strange.append(name)
    if strange or not found:
        raise BadInput(
            f"{path}: no known network: {listed(strange) or 'no tensor'}; describe it in a `layout` file, or leave "
            "tensors out with `ignore` (docs/import.md)"
        )
    return found


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the kind of a module by its tensors, None if no known kind has such tensors."""
    axes = len(shapes.get("weight", ()))
    if axes == 1:
        return "BatchNorm1d" if "running_mean" in shapes else "LayerNorm"
    return {2: "Linear", 4: "Conv2d"}.get(axes)


def _numbered(names: Sequence[str]) -> tuple[str, list[int]] | None:
    """Return the common prefix of names and the numbers behind it, None if they are not so."""
    parts = [re.fullmatch(r"(.*?)(\d{1,6})", name) for name in names]
    if not parts or any(part is None for part in parts) or len({part[1] for part in parts if part}) > 1:
        return None
    return parts[0][1], [int(part[2]) for part in parts if part]  # type: ignore[index]


def _linear(path: str, found: Shapes) -> list[Module]:
    """Return the modules of a stack of Linear layers, with the modules between them as their numbers tell."""
    numbered = _numbered(list(found))
    kinds = [_kind(shapes) for shapes in found.values()]
    if numbered is None or None in kinds:
        raise BadInput(
            f"{path}: no known network: {listed(found)}; describe it in a `layout` file, or with `modules`, {EXAMPLE}"
        )
    prefix, numbers = numbered
    if "Conv2d" in kinds:
        first = next(name for name in found if _kind(found[name]) == "Conv2d")
        raise BadInput(
            f"{path}: {first} is a convolution, and a checkpoint does not tell strides, padding and pools; list "
            f"`modules`, {EXAMPLE}"
        )
    modules = []
    for i, number in enumerate(numbers):
        between = number - (numbers[i - 1] + 1 if i else 0)
        fill = _between(between) if i else ([Module("Flatten", {})] if between == 1 else [] if not between else None)
        if fill is None:
            raise BadInput(f"{path}: {between} modules before {prefix}{number}; list all `modules`, {EXAMPLE}")
        modules += [
            *(replace(module, name=f"{prefix}{number - between + k}") for k, module in enumerate(fill)),
            Module(str(kinds[i]), {}, f"{prefix}{number}"),
        ]
    return modules


def _between(count: int) -> list[Module] | None:
    """Return so many modules between two maps, None if they cannot be told."""
    return {0: [], 1: [PHI], 2: [PHI, DROPOUT]}.get(count)


def _vgg(found: Shapes) -> list[Module] | None:
    """Return the modules of a VGG of torchvision's names, None if the checkpoint is none."""
    features = [name for name in found if name.startswith(f"{FEATURES}.")]
    rest = [name for name in found if name not in features]
    numbered = _numbered(features)
    if not numbered or numbered[0] != f"{FEATURES}." or not rest:
        return None
    modules, place = [], 0
    for name, number in zip(features, numbered[1], strict=True):
        kind = "BatchNorm2d" if _kind(found[name]) == "BatchNorm1d" else _kind(found[name])
        pools = number - place
        if kind not in ("Conv2d", "BatchNorm2d") or pools not in (0, 1) or (pools and kind != "Conv2d"):
            return None
        if pools:
            modules.append(Module("MaxPool2d", {"kernel_size": 2}, f"{FEATURES}.{place}"))
        options = {"padding": found[name]["weight"][2] // 2} if kind == "Conv2d" else {}
        modules.append(Module(kind, options, name))
        place = number + 1
        if f"{FEATURES}.{place}" not in found or _kind(found[f"{FEATURES}.{place}"]) == "Conv2d":
            modules.append(replace(PHI, name=f"{FEATURES}.{place}"))
            place += 1
    modules.append(Module("MaxPool2d", {"kernel_size": 2}, f"{FEATURES}.{place}"))
    classifier = _classifier(found, rest)
    return None if classifier is None else [*modules, Module("Flatten", {}), *classifier]


def _classifier(found: Shapes, names: Sequence[str]) -> list[Module] | None:
    if names == [CLASSIFIER]:
        return [Module("Linear", {}, CLASSIFIER)]
    numbered = _numbered(names)
    if not numbered or numbered[0] != f"{CLASSIFIER}." or any(_kind(found[name]) != "Linear" for name in names):
        return None
    modules, place = [], 0
    for i, number in enumerate(numbered[1]):
        fill = _between(number - place) if i else ([DROPOUT] if number == 1 else [] if not number else None)
        if fill is None:
            return None
        modules += [replace(module, name=f"{CLASSIFIER}.{place + k}") for k, module in enumerate(fill)]
        modules.append(Module("Linear", {}, f"{CLASSIFIER}.{number}"))
        place = number + 1
    return modules


def _named(path: str, found: Shapes, modules: Sequence[Module], prefix: str) -> list[Module]:
    """Return modules with their names in the checkpoint: those that they have, or their places."""
    if any(module.name for module in modules):
        return [replace(module, name=prefix + module.name if module.name else None) for module in modules]
    numbered = _numbered(list(found))
    if numbered is None:
        raise BadInput(f"{path}: {listed(found)} have no numbers: write names before `modules`, as in fc1: Linear")
    return [replace(module, name=f"{prefix or numbered[0]}{i}") for i, module in enumerate(modules)]


def _stack(path: str, found: Shapes, modules: Sequence[Module], told: bool) -> Stack:
    """Return the stack of named modules. told: whether the user said which nonlinearity it has."""
    held = [module.name for module in modules if module.kind in HOLDERS]
    if surplus := [name for name in found if name not in held]:
        raise BadInput(
            f"{path}: {listed(surplus)}: no map or normalisation has this name in `modules`, which have "
            f"{listed(str(name) for name in held)}"
        )
    phis = {ACTIVATIONS[module.kind] for module in modules if module.kind in ACTIVATIONS}
    if len(phis) > 1:
        raise BadInput(f"{path}: `modules` with {' and '.join(sorted(phis))}: a network has one nonlinearity here")
    first = next((module for module in modules if module.kind in HOLDERS), None)
    if first and first.kind == "Linear" and all(m.kind != "Flatten" for m in modules[: modules.index(first)]):
        modules = [Module("Flatten", {}), *modules]
    pairs = [(_part(path, found, module), module.name) for module in modules if module.kind != "Identity"]
    return Stack(
        tuple(part for part, _ in pairs), tuple(name for _, name in pairs),
        next(iter(phis), None) if told or not phis else None,
    )  # fmt: skip


def _part(path: str, found: Shapes, module: Module) -> dict[str, Any]:
    """Return the part of a module. Raises BadInput if tensors are missing or contradict what the module says."""
    options = module.options
    if module.kind in HOLDERS:
        return _holder(path, found, module)
    if module.kind in ACTIVATIONS:
        return {"op": "activation"}
    if module.kind == "Flatten":
        return {"op": "flatten"}
    if module.kind == "Dropout":
        return {"op": "dropout", "rate": options.get("p", 0.5)}
    if module.kind == "AdaptiveAvgPool2d":
        if pair(options.get("output_size"), module, "output_size") != 1:
            raise BadInput(f"{path}: `modules` AdaptiveAvgPool2d: only to one position, AdaptiveAvgPool2d(1), is known")
        return {"op": "global_pool"}
    size = pair(options.get("kernel_size"), module, "kernel_size")
    stride = pair(options.get("stride") or size, module, "stride")
    padding = pair(options.get("padding", 0), module, "padding")
    if module.kind == "MaxPool2d":
        return {"op": "max_pool", "size": size, "stride": stride, "padding": padding}
    if (stride, padding) != (size, 0):
        raise BadInput(f"{path}: `modules` AvgPool2d: windows of means lie side by side here, without padding")
    return {"op": "average_pool", "size": size}


def _holder(path: str, found: Shapes, module: Module) -> dict[str, Any]:
    shapes = found.get(str(module.name))
    if shapes is None or "weight" not in shapes:
        raise BadInput(f"{path}: no {module.name}.weight, which a {module.kind} has; there are {listed(found)}")
    kind, weight = _kind(shapes), shapes["weight"]
    batch = ("BatchNorm1d", "BatchNorm2d")
    if kind != module.kind and not (kind in batch and module.kind in batch):
        raise BadInput(f"{path}: {module.name}.weight has the shape {weight}, which is no {module.kind}")
    if kind in batch:
        return {"op": "batchnorm"}
    if kind == "LayerNorm":
        return {"op": "layernorm"}
    if kind == "Linear":
        return {"op": "dense", "units": weight[0]}
    options = module.options
    kernel = pair(options.get("kernel_size", weight[2:]), module, "kernel_size")
    if weight[2:] != (kernel, kernel):
        raise BadInput(f"{path}: {module.name}.weight has kernels of {weight[2:]}, not of {kernel} x {kernel}")
    stride, padding = options.get("stride", 1), options.get("padding", 0)
    return {
        "op": "convolution", "units": weight[0], "kernel": kernel, "stride": pair(stride, module, "stride"),
        "padding": kernel // 2 if padding == "same" else 0 if padding == "valid" else pair(padding, module, "padding"),
        "bias": "bias" in shapes,
    }  # fmt: skip
