"""Figures of grids of training options (`basiscli compare`)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from basiscli.plots.style import CEILING, CONDITIONS, FAINT, GREY, HELD_OUT, IN_SAMPLE, INK, NULL, Figure, headline

# By score: what is written below the axes of cells and of contrasts, and the unit.
PANELS = {
    "share": ("share", "difference in share", 1),
    "privilege": ("privilege (excess kurtosis)", "difference in privilege", 1),
    "test_accuracy": ("test accuracy, %", "difference in test accuracy, percentage points", 100),
}
MARKS = 5  # most marks of an axis, so that their numbers lie side by side
# The colours of the first factor's levels, and of contrasts.
COLOURS = (IN_SAMPLE, HELD_OUT, CEILING, *CONDITIONS[3:], NULL)


def comparison_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli compare`: rows are cells and, below, contrasts; columns are scores.

    Large dots are means over layers, with 95 % intervals over networks; small ones are layers. Contrasts in the mean
    over the other factors are dark, those within a cell of the other factors grey.
    """
    cells = _by_name([record for record in records if not record["factor"] and record["layer"] is not None])
    contrasts = _by_name([record for record in records if record["factor"]])
    rows = [len(cells) or 1, len(contrasts)] if contrasts else [len(cells) or 1]
    figure = Figure(figsize=(11.4, 2.4 + 0.3 * sum(rows)), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04, hspace=0.08)
    panels = figure.subplots(len(rows), 3, squeeze=False, sharey="row", gridspec_kw={"height_ratios": rows})
    networks = max(record["networks"] for record in records)
    headline(
        figure, "What the basis depends on: options of training, and differences between them, paired by seed",
        f"{networks} networks a cell; means over layers, bars: 95 % intervals over networks; small dots: single layers",
    )  # fmt: skip
    levels = list(dict.fromkeys(cell.split()[0] for cell in cells))
    for column, (field, (*titles, scale)) in zip(panels.T, PANELS.items(), strict=True):
        for k, (cell, of_cell) in enumerate(cells.items()):
            _row(column[0], k, of_cell, field, scale, COLOURS[levels.index(cell.split()[0]) % len(COLOURS)])
        for k, (name, of_contrast) in enumerate(contrasts.items()):
            _row(column[1], k, of_contrast, f"{field}_rise", scale, GREY if "(" in name else INK)
        for axis, title in zip(column, titles, strict=False):
            axis.set_xlabel(title, fontsize=9)
            axis.locator_params(axis="x", nbins=MARKS)
        if contrasts:
            column[1].axvline(0, color=GREY, linewidth=0.8)
    _name_rows(panels[0, 0], list(cells))
    panels[0, 0].set_ylabel("cell", fontsize=9)
    if contrasts:
        _name_rows(panels[1, 0], list(contrasts))
        panels[1, 0].set_ylabel("contrast", fontsize=9)
    return figure


def _by_name(records: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Return the records of each cell or contrast, in their order."""
    found: dict[str, list[Mapping]] = {}
    for record in records:
        found.setdefault(record["name"], []).append(record)
    return found


def _row(axis: Axes, place: int, records: Sequence[Mapping], field: str, scale: float, colour: str) -> None:
    """Draw the layers of a row as small dots, and their mean, the last record, as a large one with its interval."""
    layers = [scale * record[field] for record in records[:-1] if record[field] is not None]
    axis.plot(layers, [place] * len(layers), "o", color=FAINT, markersize=3.5, zorder=2)
    known = (records[-1][f"{field}{end}"] for end in ("", "_low", "_high"))
    value, low, high = (None if one is None else scale * one for one in known)
    if value is not None:
        bars = None if low is None else np.array([[value - low], [high - value]])
        axis.errorbar(
            [value], [place], xerr=bars, fmt="o", color=colour, markersize=6, elinewidth=1.6, capsize=3, zorder=3
        )


def _name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Name the rows from the top down, for all panels beside each other."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    for beside in axis.figure.axes:
        if beside.get_subplotspec().rowspan == axis.get_subplotspec().rowspan:
            beside.tick_params(labelsize=9, colors=GREY)
            beside.tick_params(axis="y", length=0)
            beside.grid(axis="x", color="#e8e9ec", linewidth=0.8)
            beside.set_axisbelow(True)
            beside.spines[["top", "right", "left"]].set_visible(False)
