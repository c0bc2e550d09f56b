"""The figure of several networks at one layer: every pair between its null and its ceiling, and their mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from basiscli.names import shown
from basiscli.plots.style import CEILING, GREY, HELD_OUT, NULL, Figure, headline

# With more rows than this, rows are closer together and have no labels.
LABELLED = 60


@dataclass(frozen=True)
class Row:
    """A pair of networks, or the mean over pairs: its score, with null, ceiling and interval where they are known.

    null: the 2.5 % quantile, the mean and the 97.5 % quantile of the draws. interval: of the mean, over networks.
    """

    label: str
    score: float | None
    null: tuple[float, float, float] | None = None
    ceiling: float | None = None
    interval: tuple[float, float] | None = None


def pairs_figure(pairs: Sequence[Row], mean: Row, null: str | None) -> Figure:
    """Draw the matched correlation held out of every pair, a row each, and their mean below a line; null: its name."""
    rows = [*pairs, mean]
    step = 0.26 if len(rows) <= LABELLED else 0.26 * LABELLED / len(rows)
    figure = Figure(figsize=(7, 1.7 + step * len(rows)), layout="constrained")
    axis = figure.subplots()
    for k, row in enumerate(pairs):
        _draw(axis, -k, row, (None, None, None), 5)
    _draw(axis, -len(pairs) - 0.4, mean, (f"{null} null", "matched, held out", "aligned ceiling"), 7)
    axis.axhline(0.3 - len(pairs), color="#e8e9ec", linewidth=0.8)
    labelled = len(rows) <= LABELLED
    axis.set_yticks(
        [-k for k in range(len(pairs)) if labelled] + [-len(pairs) - 0.4],
        [shown(row.label) for row in pairs if labelled] + [shown(mean.label)],
    )
    axis.set_ylim(-len(pairs) - 1, 0.6)
    axis.set_xlim(min(0, axis.get_xlim()[0]), 1.02)
    axis.set_xlabel("mean correlation of paired units", fontsize=9)
    axis.tick_params(labelsize=8, colors=GREY, left=False)
    axis.grid(axis="x", color="#e8e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    marks = ["line: 95 % interval of the mean over networks"] if mean.interval else []
    marks += [f"bar: 95 % of the draws of the {null} null"] if null else []
    headline(figure, "How well the units of arrays pair up: every pair of arrays, and the mean", "; ".join(marks))
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, fontsize=9, frameon=False)
    return figure


def _draw(axis: Axes, at: float, row: Row, labels: Sequence[str | None], size: float) -> None:
    """Draw one row; labels: of null, score and ceiling in the legend."""
    if row.null:
        low, middle, high = row.null
        axis.barh(at, high - low, 0.56, low, color=NULL, alpha=0.3, linewidth=0)
        axis.plot(middle, at, "|", color=NULL, markersize=9, markeredgewidth=1.6, label=labels[0])
    if row.interval:
        axis.plot(row.interval, [at, at], color=HELD_OUT, linewidth=1.6)
    if row.score is not None:
        axis.plot(row.score, at, "o", color=HELD_OUT, markersize=size, label=labels[1])
    if row.ceiling is not None:
        axis.plot(row.ceiling, at, "|", color=CEILING, markersize=9, markeredgewidth=2, label=labels[2])
