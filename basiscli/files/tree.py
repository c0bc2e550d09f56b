"""The members of an HDF5 file, without those that lie in other files."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import h5py

from basiscli.errors import BadInput
from basiscli.names import natural


class Unreadable(str):
    """The reason why a member of a file is not read, as the end of a message."""


def own(group: h5py.Group, name: str, path: str) -> h5py.Group | h5py.Dataset:
    """Return a member of a group of the file `path`. Raises BadInput for a link: it could name any file of the user."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise BadInput(f"{path}: {name} is a link; only what lies in the file itself is read")
    return group[name]


def linked(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | Unreadable:
    """Return a member of a group. A link within the file is followed; any other link is `Unreadable`."""
    link = group.get(name, getlink=True)
    here = f"{group.name.rstrip('/')}/{name}"
    if isinstance(link, h5py.ExternalLink):
        return Unreadable(f"{here} is a link to another file, which is not read")
    if isinstance(link, h5py.SoftLink):
        try:
            group[name]
        except KeyError:
            return Unreadable(f"{here} is a link to {link.path}, which is not there")
        if group[name].file.filename != group.file.filename:
            return Unreadable(f"{here} is a link to another file, which is not read")
    return group[name]


def walk(
    root: h5py.Group, take: Callable, checked: Callable[[str], AbstractContextManager]
) -> dict[str, h5py.Dataset | Unreadable]:
    """Return all members below a group that are no groups, by path, in the order of `ordered`.

    take: returns a member of a group by its name. checked: the context of each access, which names what is accessed.
    """
    nodes: dict[str, h5py.Dataset | Unreadable] = {}
    visited = set()
    waiting = [("", root)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, h5py.Group):
            if isinstance(node, h5py.Dataset | Unreadable):
                nodes[path] = node
            continue
        with checked(path or "the file"):
            place = h5py.h5o.get_info(node.id).addr
            if place in visited:  # a group may contain itself
                continue
            visited.add(place)
            inside = [(f"{path}/{name}" if path else name, take(node, name)) for name in ordered(node)]
        waiting += reversed(inside)
    return nodes


def ordered(group: h5py.Group) -> list[str]:
    """Return the names in a group in the order of writing if the file keeps it, otherwise in natural order."""
    tracked = group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED
    return list(group) if tracked else sorted(group, key=natural)
