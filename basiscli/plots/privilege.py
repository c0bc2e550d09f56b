"""The figure of privilege: the kurtosis of every unit, layer by layer, beside that of rotated axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from basiscli.plots.style import GREY, HELD_OUT, IN_SAMPLE, NULL, Figure, headline, inches, name_layers, plain

# Points of a strip; of more, so many quantiles are drawn.
POINTS = 300
# Kurtosis is drawn evenly up to this size, and by its logarithm beyond.
EVEN = 1.0


@dataclass(frozen=True)
class Strip:
    """One layer: the kurtosis of its units, of rotated axes, and of the units of untrained networks, any shape each.

    Units of several networks are drawn together. untrained: None if unknown.
    """

    layer: str
    units: np.ndarray
    rotated: np.ndarray
    untrained: np.ndarray | None = None


def privilege_figure(strips: Sequence[Strip], of: str) -> Figure:
    """Draw the layers side by side: a point a unit, rotated axes to the left, untrained units to the right.

    of: whose units they are, in words, such as "5 networks".
    """
    figure = Figure(figsize=(max(5.4, 2 + 1.6 * inches(len(strips))), 4.6), layout="constrained")
    axis = figure.subplots()
    axis.axhline(0, color=GREY, linewidth=0.8)
    for k, strip in enumerate(strips):
        first = k == 0
        _draw(axis, k - 0.27, strip.rotated, NULL, "rotated axes" if first else None)
        _draw(axis, k, strip.units, HELD_OUT, "units" if first else None)
        if strip.untrained is not None:
            _draw(axis, k + 0.27, strip.untrained, IN_SAMPLE, "units, untrained" if first else None)
    axis.set_yscale("symlog", linthresh=EVEN)
    axis.set_yticks([tick for tick in (-2, -1, 0, 1, 3, 10, 30, 100, 300, 1000) if _inside(axis, tick)])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    name_layers(axis, [strip.layer for strip in strips])
    axis.set_xlim(-0.6, len(strips) - 0.4)
    axis.set_ylabel("excess kurtosis, 0 for a normal distribution", fontsize=9)
    plain(axis)
    figure.legend(loc="outside lower left", ncols=3, fontsize=9, frameon=False, markerscale=2)
    headline(
        figure, f"How sparse the units of {of} are, beside rotated axes of the same layers",
        "a point: a unit or an axis; thick line: their mean",
    )  # fmt: skip
    return figure


def _draw(axis: Axes, at: float, values: np.ndarray, colour: str, label: str | None) -> None:
    """Draw a strip of points with a line at their mean; the places of the points depend on their order alone."""
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return
    shown = known if len(known) <= POINTS else np.quantile(known, np.linspace(0, 1, POINTS))
    aside = 0.2 * (np.arange(len(shown)) * 0.618034 % 1 - 0.5)
    axis.scatter(at + aside, shown, s=7, color=colour, alpha=0.45, linewidth=0, label=label)
    axis.plot([at - 0.13, at + 0.13], [known.mean()] * 2, color=colour, linewidth=2.2)


def _inside(axis: Axes, tick: float) -> bool:
    low, high = axis.get_ylim()
    return low <= tick <= high
