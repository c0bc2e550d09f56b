"""Groups of networks that turn out too large for the memory are trained in halves."""

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
    """Yield each group with what `train` returns for it.

    Where memory runs out, half as many networks are trained at once from then on, the group in question from where it
    stood; a line on stderr says so. Raises MemoryError if there is too little for one network.
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
        # The error is gone, and with it what held the arrays of the run.
        placement.release_memory()
        log.warning(f"not enough memory ({said}); goes on with {most} at once")
        waiting.append(group)


def _split(group: SeedGroup, size: int) -> Iterator[SeedGroup]:
    """Yield groups of at most `size` of the same networks."""
    for first in range(0, len(group.members), size):
        part = slice(first, first + size)
        yield SeedGroup(group.members[part], group.files[part])
