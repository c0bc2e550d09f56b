"""Globs over names of layers and weights; `*` matches across slashes."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from basiscli.errors import BadInput


def matches(name: str, glob: str) -> bool:
    """Return whether a name matches a glob."""
    return fnmatchcase(name, glob)


def select(names: Iterable[str], globs: Iterable[str], unknown: Callable[[str], str]) -> list[str]:
    """Return the names that match any of the globs, in their order.

    Raises BadInput with `unknown(glob)` for a glob that matches nothing.
    """
    names = list(names)
    chosen = set()
    for glob in globs:
        found = [name for name in names if matches(name, glob)]
        if not found:
            raise BadInput(unknown(glob))
        chosen.update(found)
    return [name for name in names if name in chosen]
