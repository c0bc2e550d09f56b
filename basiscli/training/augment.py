"""Random moves of training images: what `augment` names, as the arrays that the gather kernel takes. M images.

`shift` moves by up to a pixel; `crop` by up to an eighth of each side (the usual padding of 4 for 32 x 32, then a
random crop); `flip` exchanges left and right of every other image; `cutout` blanks a square of half the smaller side
(DeVries and Taylor 2017).
"""

from collections.abc import Callable

import numpy as np

from basiscli.errors import BadInput

NONE, ALL_SHIFTS = "none", "all-shifts"
NAMES = ("shift", "crop", "flip", "cutout")


def parse(text: str) -> tuple[str, ...]:
    """Return the names of a value of `augment` such as "crop,flip", none for "none" and "all-shifts".

    Raises BadInput for a name that is none, a name given twice, and shift together with crop.
    """
    if text in (NONE, ALL_SHIFTS):
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(NAMES) or len(set(names)) < len(names) or {"shift", "crop"} <= set(names):
        raise BadInput(f"augment '{text}': write {NONE}, {ALL_SHIFTS}, or some of shift or crop, flip, cutout")
    return names


def moves(names: tuple[str, ...], size: tuple[int, int], count: int, stream: Callable) -> np.ndarray:
    """Return the moves (M, 2 or 5) of `count` images of a size (H, W), as the gather kernel takes them.

    `stream(*name)` gives the generator of a random stream; each kind of move has its own.
    """
    drawn = np.zeros((count, 5 if {"flip", "cutout"} & set(names) else 2), np.int64)
    if "shift" in names or "crop" in names:
        reach = [max(1, side // 8) if "crop" in names else 1 for side in size]
        drawn[:, :2] = stream().integers(np.negative(reach), np.add(reach, 1), (count, 2))
    if "flip" in names:
        drawn[:, 2] = stream("flip").integers(0, 2, count)
    if "cutout" in names:
        drawn[:, 3:] = stream("cutout").integers(0, size, (count, 2))
    return drawn


def hole(names: tuple[str, ...], size: tuple[int, int]) -> int:
    """Return the side of the square that `cutout` blanks, 0 without it."""
    return min(size) // 2 if "cutout" in names else 0
