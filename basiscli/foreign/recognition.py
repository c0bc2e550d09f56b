"""Which network a state dict is: the layout that its names follow, and the architecture that its shapes tell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from basiscli.errors import BadInput
from basiscli.foreign.checkpoints import Tensor, listed
from basiscli.foreign.layouts import BEFORE, LAYOUTS, RESNET, WIDERESNET, Layout
from basiscli.nn import models

BEFORE_NORM = f"{BEFORE}/norm"
# The channels of the first stage of ResNet-18 to 152.
USUAL_WIDTH = 64
# The tensors of a module.
LEAVES = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Names:
    """The names of a checkpoint in the light of a layout: how they were understood, and which were not.

    blocks: the places of the blocks of each stage. kinds: the names of ours that occur. first: the module of a name of
    ours, by (name, stage), in the first block of the stage; stage 0 for what is in no block.
    """

    layout: Layout
    blocks: Mapping[int, set[int]]
    kinds: frozenset[str]
    first: Mapping[tuple[str, int], str]
    unknown: tuple[str, ...]


def understand(layout: Layout, tensors: Iterable[str]) -> Names:
    """Return what a layout makes of names of tensors."""
    patterns = layout.patterns()
    blocks: dict[int, set[int]] = {}
    first: dict[tuple[str, int], str] = {}
    kinds, unknown = set(), []
    for name in tensors:
        module, _, leaf = name.rpartition(".")
        found = next(((ours, match) for ours, p in patterns.items() if (match := p.fullmatch(module))), None)
        if found is None or leaf not in LEAVES:
            unknown.append(name)
            continue
        ours, match = found
        at = {key: int(value) for key, value in match.groupdict().items()}
        ours = ours.replace("{k}", str(at.get("k")))
        kinds.add(ours)
        if "stage" in at:
            blocks.setdefault(at["stage"], set()).add(at["block"])
        if at.get("block", 0) == 0:
            first[ours, at.get("stage", 0)] = module
    return Names(layout, blocks, frozenset(kinds), first, tuple(unknown))


def recognise(path: str, tensors: Mapping[str, Tensor], layout: Layout | None = None) -> Names | None:
    """Return the names as one of the layouts has them, or as `layout` has; None if no layout knows most of them.

    Raises BadInput with the first names that do not fit, if most do.
    """
    known = [candidate for candidate in LAYOUTS.values() if all(mark in tensors for mark in candidate.marks)]
    understood = [understand(candidate, tensors) for candidate in ([layout] if layout else known)]
    best = min(understood, key=lambda names: (len(names.unknown), -len(names.layout.marks)))
    if not layout and 2 * len(best.unknown) >= len(tensors):
        return None
    if best.unknown:
        raise BadInput(
            f"{path}: in the layout {best.layout.name} there is no {listed(best.unknown)}; leave them out with "
            "`ignore`, or describe the network in a `layout` file (docs/import.md)"
        )
    return best


def architecture(path: str, names: Names, tensors: Mapping[str, Tensor], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a residual network, without the shape of its images, and `channels`, theirs.

    chosen: what the user says about it. Raises BadInput for blocks and maps that are missing.
    """
    counts = []
    for stage in range(1, len(names.blocks) + 1):
        places = names.blocks.get(stage, set())
        if not places or max(places) + 1 != len(places):
            raise BadInput(f"{path}: blocks of stage {stage} are missing; the checkpoint is not whole")
        counts.append(len(places))
    if not counts:
        raise BadInput(f"{path}: has no block; the checkpoint is not whole")
    stem, output = _shape(path, names, tensors, "stem", 0, 4), _shape(path, names, tensors, "output", 0, 2)
    widths = [_shape(path, names, tensors, "block{n}/conv1", stage, 4)[0] for stage in range(1, len(counts) + 1)]
    describe = _resnet if names.layout.model == RESNET else _wideresnet
    norm = {} if "stem/norm" in names.kinds or BEFORE_NORM in names.kinds else {"norm": "none"}
    own = describe(path, names, counts, widths, stem) | norm
    return {**names.layout.choices, **own, "classes": output[0], "channels": stem[1], **chosen}


def _shape(path: str, names: Names, tensors: Mapping[str, Tensor], ours: str, stage: int, axes: int) -> tuple[int, ...]:
    """Return the shape of the weight of a map."""
    module = names.first.get((ours, stage), names.layout.module(ours, stage))
    tensor = tensors.get(f"{module}.weight")
    if tensor is None:
        raise BadInput(f"{path}: no {module}.weight; the checkpoint is not whole")
    if len(tensor.shape) != axes or 0 in tensor.shape:
        raise BadInput(f"{path}: {module}.weight has the shape {tensor.shape}, not {axes} axes")
    return tensor.shape


def _resnet(path: str, names: Names, counts: list[int], widths: list[int], stem: tuple[int, ...]) -> dict[str, Any]:
    stems = {(3, 3): models.CIFAR_STEM, (7, 7): models.IMAGENET_STEM}
    kernel = stem[2], stem[3]
    if kernel not in stems:
        raise BadInput(f"{path}: a first kernel of {stem[2]} x {stem[3]}; residual networks begin with 3 x 3 or 7 x 7")
    own: dict[str, Any] = {"model": RESNET}
    if "block{n}/shortcut" in names.kinds:
        own["shortcut"] = "B"
    bottleneck = "block{n}/conv3" in names.kinds
    doubling = [widths[0] << stage for stage in range(len(widths))] == widths
    plain = kernel == (3, 3) and not bottleneck and len(set(counts)) == 1 and len(counts) == len(models.GROUPS)
    if plain and doubling:
        return own | {"depth": 6 * counts[0] + 2, "width": _factor(widths[0], models.GROUPS[0])}
    if doubling:  # so that networks of several widths differ in `width` alone
        own["width"] = _factor(widths[0], USUAL_WIDTH)
        widths = [USUAL_WIDTH << stage for stage in range(len(widths))]
    return own | {
        "stage_blocks": counts,
        "stage_widths": widths,
        "block": models.BOTTLENECK if bottleneck else models.BASIC,
        "stem": stems[kernel],
    }


def _wideresnet(path: str, names: Names, counts: list[int], widths: list[int], stem: tuple[int, ...]) -> dict[str, Any]:
    if len(set(counts)) != 1 or len(counts) != len(models.GROUPS):
        raise BadInput(f"{path}: stages of {counts} blocks; a wide residual network has three stages of equal length")
    return {"model": WIDERESNET, "depth": 6 * counts[0] + 4, "width": _factor(widths[0], models.GROUPS[0])}


def _factor(units: int, usual: int) -> float:
    """Return units over the usual number, as a whole number where it is one."""
    whole, rest = divmod(units, usual)
    return units / usual if rest else whole
