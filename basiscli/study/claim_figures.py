"""The figures of the four claims, small and in colours that a page can replace (docs/study.md)."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from basiscli.plots.style import CEILING, GREY, HELD_OUT, IN_SAMPLE, NULL
from basiscli.study import claims
from basiscli.study.claims import Verdict

GRID = "#e8e9ec"
# What a page calls the colours, so that it can have others in the dark.
NAMES = {GREY: "muted", HELD_OUT: "red", IN_SAMPLE: "blue", NULL: "grey", CEILING: "green", GRID: "line"}
SIZE = (4.0, 2.9)
ASIDE = 18  # points between the last place of an axis and the names of the lines
# Of the four together: each with its claim and verdict above it, in lines of so many characters.
SHEET, HEAD, LINE = (9.6, 7.6), 0.42, 54
VERDICTS = {claims.SHOWN: "#1d6b3f", claims.REFUTED: "#a5301f", claims.UNDECIDED: "#6a5212"}


def draw(tables: Mapping[str, Sequence[Mapping]]) -> dict[str, tuple[Figure, str]]:
    """Return the figure of each claim that there are records of, with what it shows in words."""
    found = {}
    for claim, make in _drawn(tables).items():
        figure = Figure(figsize=SIZE, layout="constrained")
        found[claim] = figure, make(figure)
    return found


def together(tables: Mapping[str, Sequence[Mapping]], verdicts: Sequence[Verdict]) -> Figure:
    """Return the figures of all claims as one, each under its claim and verdict."""
    figure, drawn = Figure(figsize=SHEET, layout="constrained"), _drawn(tables)
    figure.get_layout_engine().set(w_pad=0.14, h_pad=0.07)
    parts = figure.subfigures(4, 2, height_ratios=[HEAD, 1] * 2)
    for k, verdict in enumerate(verdicts):
        _head(parts[k // 2 * 2, k % 2], verdict)
        if make := drawn.get(verdict.claim):
            make(parts[k // 2 * 2 + 1, k % 2])
    return figure


def _head(figure: FigureBase, verdict: Verdict) -> None:
    """Write a verdict, its claim and its effect."""
    effect = f"{verdict.effect} {verdict.measure}" if verdict.effect else verdict.because
    for place, text, size, colour, weight in (
        (0.95, verdict.verdict.capitalize(), 13, VERDICTS[verdict.verdict], "bold"),
        (0.70, f"{verdict.claim}  {claims.STATEMENTS[verdict.claim]}", 10, "#1c2129", "bold"),
        (0.30, effect, 9, GREY, "normal"),
    ):
        text = textwrap.fill(text, LINE * 10 // size)
        figure.text(0.02, place, text, va="top", fontsize=size, color=colour, weight=weight, linespacing=1.15)


def _drawn(tables: Mapping[str, Sequence[Mapping]]) -> dict[str, Callable[[FigureBase], str]]:
    """Return, for each claim that there are records of, what draws it into a figure and says what it shows."""
    found = {}
    for claim, command, rows_of, make in (
        ("C1", "rotate", claims.contrasts, _rotation),
        ("C2", "correlate", claims.by_width, _correlation),
        ("C3", "freeze", claims.rises, _freezing),
        ("C4", "connectivity", claims.barriers, partial(_connectivity, tables.get("connectivity"))),
    ):
        if rows := rows_of(tables.get(command, ())):
            found[claim] = partial(make, rows)
    return found


def svg(figure: Figure, name: str, variables: bool) -> str:
    """Return a figure as SVG, the same for the same figure, its ids beginning with `name`.

    variables: colours are the page's, `var(--red)` and so on, and there is no XML head.
    """
    page = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "basiscli"}):
        figure.savefig(page, format="svg", metadata={"Date": None, "Creator": None}, transparent=variables)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", page.getvalue())
    if variables:
        text = re.sub(r"#[0-9a-f]{6}\b", lambda colour: f"var(--{NAMES.get(colour[0], 'ink')})", text)
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text[text.index("<svg") :])
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    return text


def _rotation(rows: Sequence[Mapping], figure: FigureBase) -> str:
    """Accuracy that a rotation costs beyond a permutation, by layer, in nonlinear networks and in linear ones."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    lines = list(dict.fromkeys((row["linear"], row.get("width")) for row in rows))
    several = len(lines) > len({linear for linear, _ in lines})
    (axis,) = _axes(figure, "accuracy lost, points")
    told = []
    for k, (linear, width) in enumerate(lines):
        name = ("linear" if linear else "nonlinear") + (f", {claims.name_of(width)}" if several else "")
        line = [row for row in rows if (row["linear"], row.get("width")) == (linear, width)]
        at = [layers.index(row["layer"]) + 0.07 * (k - (len(lines) - 1) / 2) for row in line]
        _points(axis, at, line, "penalty_accuracy", CEILING if linear else HELD_OUT, name, scale=100)
        told += [f"{name} {row['layer']}: {_told(row, 'penalty_accuracy', 100)}" for row in line]
    axis.axhline(0, color=GREY, linewidth=0.8)
    _finish(axis, layers)
    return "Points of accuracy that a rotation costs beyond a permutation. " + "; ".join(told) + "."


def _correlation(rows: Sequence[Mapping], figure: FigureBase) -> str:
    """Correlation of matched units against width, between the rotated null and the aligned ceiling."""
    (axis,) = _axes(figure, "correlation, held out")
    at = np.arange(len(rows))
    if all(row["null"] is not None and row["ceiling"] is not None for row in rows):
        axis.fill_between(at, _values(rows, "null"), _values(rows, "ceiling"), color=NULL, alpha=0.18, linewidth=0)
    for field, colour, name in (
        ("ceiling", CEILING, "aligned ceiling"),
        ("matched", HELD_OUT, "single units"),
        ("null", GREY, "rotated null"),
    ):
        _points(axis, at, rows, field, colour, name)
    axis.set_ylim(0, 1)
    widths = [claims.name_of(row["width"]) for row in rows]
    _finish(axis, widths, "width")
    told = [
        f"width {width}: {_told(row, 'matched')} between {_told(row, 'null')} and {_told(row, 'ceiling')}"
        for width, row in zip(widths, rows, strict=True)
    ]
    return "Correlation of matched units, between the rotated null and the aligned ceiling. " + "; ".join(told) + "."


def _freezing(rows: Sequence[Mapping], figure: FigureBase) -> str:
    """Rise of the correlation, and of its excess over the rotated null, after each frozen prefix."""
    (axis,) = _axes(figure, "rise over free networks")
    at = np.arange(len(rows))
    _points(axis, at - 0.04, rows, "rise", HELD_OUT, "correlation")
    _points(axis, at + 0.04, rows, "excess_rise", IN_SAMPLE, "excess over null")
    axis.axhline(0, color=GREY, linewidth=0.8)
    _finish(axis, [f"{row['prefix']}, at {row['layer']}" for row in rows], "layers frozen")
    told = [f"{row['prefix']} frozen: {_told(row, 'rise')}, excess {_told(row, 'excess_rise')}" for row in rows]
    return "Rise of the correlation in the next layer after frozen layers. " + "; ".join(told) + "."


def _connectivity(records: Sequence[Mapping], rows: Sequence[Mapping], figure: FigureBase) -> str:
    """Barriers against width, above the correlation of the same pairs."""
    above, below = _axes(figure, "loss barrier", panels=2)
    at = np.arange(len(rows))
    widths = [row["width"] for row in rows]
    plain = [r for r in records if r["split"] == "test" and (r["match"], r["correct"]) == ("none", "none")]
    if rows[0]["match"] != "none" and [r["width"] for r in plain] == widths:
        _points(above, at, plain, "barrier", GREY, "as they come")
    if all(row["degraded"] is not None for row in rows):
        _points(above, at + 0.05, rows, "degraded", IN_SAMPLE, "at equal correlation")
    _points(above, at, rows, "barrier", HELD_OUT, "matched")
    above.set_ylim(min(0, above.get_ylim()[0]), None)
    _points(below, at, rows, "matched_held_out", HELD_OUT, "single units")
    _points(below, at, rows, "rotated_held_out_mean", GREY, "rotated null")
    below.set_ylim(0, 1)
    _finish(above, [])
    names = [claims.name_of(width) for width in widths]
    _finish(below, names, "width")
    below.set_ylabel("correlation", fontsize=9, color=GREY)
    told = [
        f"width {name}: barrier {_told(row, 'barrier')}, correlation {_told(row, 'matched_held_out')}"
        for name, row in zip(names, rows, strict=True)
    ]
    return "Loss barrier and basis correlation against width. " + "; ".join(told) + "."


def _axes(figure: FigureBase, label: str, panels: int = 1) -> Sequence[Axes]:
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[1.3, 1][:panels])[:, 0]
    axes[0].set_ylabel(label, fontsize=9, color=GREY)
    return axes


def _points(
    axis: Axes, at: Sequence[float], rows: Sequence[Mapping], field: str, colour: str, name: str, scale: float = 1
) -> None:
    """Draw a field with its intervals, the name beside its last point."""
    values = scale * _values(rows, field)
    if not np.isfinite(values).any():
        return
    ends = scale * np.array([_values(rows, f"{field}_low"), _values(rows, f"{field}_high")])
    bars = np.nan_to_num(np.abs(ends - values))
    axis.errorbar(at, values, bars, color=colour, linewidth=1.8, elinewidth=1.4, capsize=3, marker="o", markersize=4)
    axis.annotate(
        name, (round(at[-1]), values[-1]), xytext=(ASIDE, 0), textcoords="offset points", color=colour, fontsize=9,
        va="center", annotation_clip=False,
    )  # fmt: skip


def _finish(axis: Axes, ticks: Sequence[str], label: str = "") -> None:
    if ticks:
        axis.set_xticks(range(len(ticks)), ticks)
        axis.set_xlim(-0.3, len(ticks) - 1 + 0.25)
        axis.set_xlabel(label, fontsize=9, color=GREY)
    axis.tick_params(labelsize=9, colors=GREY)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(GREY)
    _spread(axis)


def _spread(axis: Axes) -> None:
    """Move names apart that would lie on each other."""
    bottom, top = axis.get_ylim()
    height = axis.get_window_extent().height * 72 / axis.figure.dpi
    scale, free = height / (top - bottom), -np.inf
    for text in sorted(axis.texts, key=lambda text: text.xy[1]):
        place = text.xy[1] * scale
        free = max(place, free + 11)
        text.set_position((ASIDE, free - place))


def _values(rows: Sequence[Mapping], field: str) -> np.ndarray:
    return np.array([row.get(field) for row in rows], dtype=float)


def _told(row: Mapping, field: str, scale: float = 1) -> str:
    """Return a value with its interval in words."""
    value, low, high = (row.get(f"{field}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "unknown"
    digits = ".1f" if scale != 1 else ".2f"
    between = "" if low is None else f" ({scale * low:{digits}} to {scale * high:{digits}})"
    return f"{scale * value:{digits}}{between}"
