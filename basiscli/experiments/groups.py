"""Training of groups of networks; a group that is too large for the memory is trained in halves."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from basiscli.device import placement
from basiscli.experiments.training_loop import SeedGroup
from basiscli.notes import log

Result = TypeVar("Result")


def train_groups(
    groups: Sequence[SeedGroup], train: Callable[[SeedGroup], Result]
) -> Iterator[tuple[SeedGroup, Result]]:
    """Yield each group with the result of `train`.

    If memory runs out, half as many networks are trained at once from then on, and a line on stderr says so. The group
    goes on from its last position. Raises MemoryError if the memory is too small for one network.
    """
    waiting, most = list(reversed(groups)), sys.maxsize
    while waiting:
        group = waiting.pop()
        if len(group.members) > most:
            waiting += reversed(list(_split(group, most)))
            continue
        try:
            result = train(group)
        except MemoryError as error:
            most = len(group.members) // 2
            if not most:
                raise
            said = " ".join(str(error).split())
        else:
            yield group, result
            continue
        # Here the error is gone, and with it the last reference to the arrays of the run.
        placement.release_memory()
        log.warning(f"not enough memory ({said}); goes on with {most} at once")
        waiting.append(group)


def _split(group: SeedGroup, size: int) -> Iterator[SeedGroup]:
    """Yield the same networks in groups of at most `size`."""
    for first in range(0, len(group.members), size):
        part = slice(first, first + size)
        yield SeedGroup(group.members[part], group.files[part])
