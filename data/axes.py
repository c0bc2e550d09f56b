"""The axis of the channels of images and activations: the last one, or the one after the samples."""

from collections.abc import Sequence

FIRST, LAST = CHANNELS = ("first", "last")
# Images of so many channels are grey or coloured.
USUAL = (1, 3)


def told(shape: Sequence[int]) -> str | None:
    """Return FIRST or LAST for a shape (samples, a, ..., z), by the square that positions form; None if unclear."""
    if len(shape) < 4:
        return None
    first, last = len(set(shape[2:])) == 1, len(set(shape[1:-1])) == 1
    return None if first == last else FIRST if first else LAST


def told_of_images(shape: Sequence[int]) -> str | None:
    """Return FIRST or LAST for images (N, a, b, c) with 1 or 3 channels, else as `told` does."""
    first, last = shape[1] in USUAL, shape[-1] in USUAL
    return told(shape) if first == last else FIRST if first else LAST
