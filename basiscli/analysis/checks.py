"""Activations that cannot be compared: they differ in their rows, are not finite, or overflow."""

from collections.abc import Sequence

import numpy as np

from basiscli.analysis.blocks import Member
from basiscli.analysis.moments import Moments
from basiscli.errors import BadInput


class Unfit(BadInput):
    """A member that cannot be compared with the others."""

    def __init__(self, message: str, member: Member) -> None:
        super().__init__(message)
        self.member = member


def common_samples(sources: Sequence, layer: str, networks: Sequence[int]) -> int:
    """Return how many samples a layer has. Raises BadInput if the sources differ in it."""
    first = sources[networks[0]]
    for k in networks[1:]:
        if sources[k].samples[layer] != first.samples[layer]:
            raise BadInput(
                f"{sources[k].path}: layer {layer} has {sources[k].samples[layer]} samples, {first.path} has "
                f"{first.samples[layer]}: record both on the same inputs, or give `samples`"
            )
    return first.samples[layer]


def require_same_rows(
    sources: Sequence, members: Sequence[Member], arrays: Sequence[np.ndarray], positions: str | int
) -> None:
    """Raise BadInput unless the chunks of all members have the same rows."""
    if positions == "mean":  # one row a sample, however many positions
        return
    for member, array in zip(members, arrays, strict=True):
        if array.shape[:-1] != arrays[0].shape[:-1]:
            raise Unfit(
                f"{_where(sources, member)} has {_positions(array)} positions a sample, "
                f"{sources[members[0].source].path} has {_positions(arrays[0])}: compare layers of the same size",
                member,
            )


def require_finite(sources: Sequence, member: Member, not_finite: int) -> None:
    """Raise BadInput if a member has activations that are not finite."""
    if not_finite:
        raise Unfit(told_not_finite(_where(sources, member), not_finite), member)


def told_not_finite(place: str, count: int) -> str:
    """Say that so many activations of a place are not finite, and what to do."""
    return f"{place}: {count:,} activations are NaN or infinite; leave the layer or the network out, or record it again"


def require_range(sources: Sequence, members: Sequence[Member], halves: Sequence[Moments]) -> None:
    """Raise BadInput if products of activations were too large for their type."""
    if not all(np.isfinite(table).all() for half in halves for table in (*half.own, *half.cross.values())):
        largest = max(range(len(members)), key=lambda k: max(half.variances(k).max() for half in halves))
        raise Unfit(
            f"{_where(sources, members[largest])}: activations so large that products overflow; "
            "scale them and record again",
            members[largest],
        )


def _positions(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape[1:-1])) or "1"


def where(source, layer: str) -> str:
    """Name a layer of a source in a message; an array, whose only layer has no name, is named by its path."""
    return f"{source.path}: layer {layer}" if layer else source.path


def _where(sources: Sequence, member: Member) -> str:
    return where(sources[member.source], member.layer)
