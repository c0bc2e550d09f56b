"""The figure of units: for each of some units, the images that excite it most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from basiscli.plots.style import GREY, Figure, headline


@dataclass(frozen=True)
class Row:
    """Some units of a layer: their numbers, their universality, and the images (n, H, W, C) that excite each most."""

    title: str
    units: Sequence[int]
    universality: Sequence[float]
    images: Sequence[np.ndarray]


def units_figure(rows: Sequence[Row], of: str) -> Figure:
    """Draw a row of units each, a mosaic of images a unit. of: whose units they are."""
    columns = max(len(row.units) for row in rows)
    figure = Figure(figsize=(1.2 + 1.25 * columns, 0.7 + 1.5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, unit, score, images in zip(line, row.units, row.universality, row.images, strict=False):
            axis.set_axis_on()
            axis.imshow(mosaic(images), cmap="gray", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.set_title(f"unit {unit}: {score:.2f}", fontsize=8, color=GREY)
        line[0].set_axis_on()
        line[0].set_ylabel(row.title, fontsize=8, rotation=0, ha="right", va="center", color=GREY)
    headline(
        figure, f"The images that excite units of {of} most",
        "beside a unit's number: its universality, the mean correlation with its best partner in other networks",
    )  # fmt: skip
    return figure


def mosaic(images: np.ndarray) -> np.ndarray:
    """Return images (n, H, W, C) as one square of images, each in full contrast, a line between them."""
    count, height, width, channels = images.shape
    side = int(np.ceil(np.sqrt(count)))
    shown = images.astype(np.float64)
    low, high = (reach(shown, axis=(1, 2, 3), keepdims=True) for reach in (np.min, np.max))
    shown = (shown - low) / np.where(high > low, high - low, 1)
    whole = np.ones((side * (height + 1) - 1, side * (width + 1) - 1, channels))
    for k, image in enumerate(shown):
        top, left = k // side * (height + 1), k % side * (width + 1)
        whole[top : top + height, left : left + width] = image
    return whole if channels == 3 else whole[..., 0]
