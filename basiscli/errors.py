"""The one exception that a user is meant to read. Every module may import this; this imports nothing."""

from collections.abc import Iterable


class BadInput(ValueError):
    """What the user gave cannot be used; the message is one line that names the file, the layer and what to do.

    Names out of damaged or foreign files are part of messages, so control characters are shown as escapes.
    In a program the message names the parameter. It is a ValueError.

    >>> import basiscli
    >>> basiscli.correlate([[1, 2], [3, 4]], [[1, 2]])
    Traceback (most recent call last):
    basiscli.errors.BadInput: y has 1 sample: correlations need two or more
    >>> issubclass(basiscli.BadInput, ValueError)
    True
    """

    def __init__(self, message: object) -> None:
        super().__init__(printable(str(message)))


def printable(text: str) -> str:
    """Return text with an escape in place of each control character, line break, and mark of writing direction."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'mnist'?` with the known name that is most like a name, or an empty text."""
    from difflib import get_close_matches

    alike = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{alike[0]}'?" if alike else ""
