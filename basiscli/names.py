"""Names of layers and weights: their natural order, what patterns choose among them, and how foreign ones are shown."""

import html
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from basiscli.errors import BadInput, printable

EVERY = ("*",)
# Spreadsheets take a cell that begins with one of these as a formula, and run it.
FORMULAS = "=+-@"


def shown(text: str) -> str:
    """Return foreign text as it is shown everywhere: escapes for what is not printable, but with its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def in_html(text: str) -> str:
    """Return foreign text as it is shown in HTML, in an element or in the value of an attribute."""
    return html.escape(shown(text))


def in_csv(value: object) -> object:
    """Return a value as a cell of CSV. A text is one line, and an apostrophe precedes what is like a formula."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.lstrip().startswith(tuple(FORMULAS)) else printable(value)


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts layers.2 before layers.10: numbers by their value, everything else by its letters."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def choose(names: Iterable[str], patterns: Sequence[str], where: str) -> list[str]:
    """Return the names that patterns choose, in the order of `names`.

    A pattern is a name, a glob in which `*` matches across slashes, several of them with commas between, or `!GLOB`,
    which leaves out; with such ones only, every other name is chosen. A name comes before a glob: `layers[0]` chooses
    the layer of that name where there is one. Raises BadInput if nothing is chosen; `where` begins the message.
    """
    names = list(names)
    chosen = _chosen(names, *_parts(names, patterns))
    if not chosen:
        listed = f"it has {', '.join(names)}" if names else "it has none"
        raise BadInput(f"{where}: no layer matches '{','.join(patterns)}'; {listed}")
    return chosen


def renamed(names: Iterable[str], rules: Sequence[tuple[str, str]], where: str) -> dict[str, str]:
    """Return names by their new names, by the first rule (glob, name) that matches; `*` of the name is what `*`
    matched.

    Raises BadInput if two names become one; `where` begins the message.
    """
    new: dict[str, str] = {}
    for name in names:
        called = next((called for rule in rules if (called := _by_rule(name, *rule)) is not None), name)
        if called in new:
            raise BadInput(f"{where}: `rename` gives {new[called]} and {name} one name, {called}")
        new[called] = name
    return new


def _by_rule(name: str, old: str, new: str) -> str | None:
    before, star, after = old.partition("*")
    if not star:
        return new if name == old else None
    if len(name) < len(before) + len(after) or not (name.startswith(before) and name.endswith(after)):
        return None
    return new.replace("*", name[len(before) : len(name) - len(after)])


def matches(name: str, glob: str) -> bool:
    """Return whether a name matches a glob; `*` matches across slashes."""
    return fnmatchcase(name, glob)


def select(names: Iterable[str], patterns: Sequence[str], unknown: Callable[[str], str]) -> list[str]:
    """Return the names that patterns choose as in `choose`, in their order; without a pattern none.

    Raises BadInput with `unknown(part)` for a name or a glob that matches nothing.
    """
    names = list(names)
    if not patterns:
        return []
    kept, left_out = _parts(names, patterns)
    for part in kept:
        if not any(_matches(name, [part], names) for name in names):
            raise BadInput(unknown(part))
    return _chosen(names, kept, left_out)


def _parts(names: Sequence[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names and globs that patterns name, and those that they leave out."""
    wanted = [part for pattern in patterns for part in ([pattern] if pattern in names else pattern.split(",")) if part]
    left_out = [part for part in wanted if part.startswith("!") and part not in names]
    kept = [part for part in wanted if part not in left_out] or list(EVERY)
    return kept, [part[1:] for part in left_out]


def _chosen(names: Sequence[str], kept: Sequence[str], left_out: Sequence[str]) -> list[str]:
    return [name for name in names if _matches(name, kept, names) and not _matches(name, left_out, names)]


def _matches(name: str, patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(name == part or (part not in names and matches(name, part)) for part in patterns)
