"""The figures of the four claims, small and in colours that a page can replace (docs/study.md)."""

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from basiscli.analysis import statistics
from basiscli.analysis.barriers import CIRCLE, FEWER
from basiscli.analysis.statistics import Estimate, bonferroni
from basiscli.plots.style import (
    CEILING,
    FAINT,
    GREY,
    HELD_OUT,
    IN_SAMPLE,
    MANY,
    NULL,
    Figure,
    label_ends,
    name_layers,
    spread_labels,
)
from basiscli.study import claims
from basiscli.study.rules import c1, c2, c3, c4
from basiscli.study.verdict import MIXED, REFUTED, SHOWN, Record, Verdict, estimate_of, mean, name_of, told

GRID, THRESHOLD = "#e8e9ec", "#8a6d1d"
# What a page calls the colours, so that it can have others in the dark.
NAMES = {
    GREY: "muted", HELD_OUT: "red", IN_SAMPLE: "blue", NULL: "grey", CEILING: "green", GRID: "line",
    THRESHOLD: "threshold", FAINT: "line",
}  # fmt: skip
# How much the channels of a shade of grey may differ.
GREYEST = 32
SIZE = (4.3, 3.2)
# Of the four together: each with its claim and verdict above it, in lines of so many characters.
SHEET, HEAD, LINE = (10.4, 9.0), 0.42, 58
SIDE_BY_SIDE = 38  # letters of names that fit below an axis
BARS = "Bars: 95 % intervals over networks (C3: over donors). Dashed lines: where the rules of docs/study.md decide."
COLOURS = {SHOWN: "#1d6b3f", REFUTED: "#a5301f", MIXED: "#6a5212"}


def draw(tables: Mapping[str, Sequence[Record]]) -> dict[str, tuple[Figure, str]]:
    """Return the figure of each claim that there are records of, with what it shows in words."""
    found = {}
    for claim, make in _drawn(tables).items():
        figure = Figure(figsize=SIZE, layout="constrained")
        found[claim] = figure, make(figure)
        spread_labels(figure)
    return found


def together(tables: Mapping[str, Sequence[Record]], verdicts: Sequence[Verdict]) -> Figure:
    """Return the figures of all claims as one, each under its claim and verdict."""
    figure, drawn = Figure(figsize=SHEET, layout="constrained"), _drawn(tables)
    figure.get_layout_engine().set(w_pad=0.14, h_pad=0.07)
    parts = figure.subfigures(4, 2, height_ratios=[HEAD, 1] * 2)
    for k, claim in enumerate(claims.STATEMENTS):
        _head(parts[k // 2 * 2, k % 2], claim, [one for one in verdicts if one.claim == claim])
        if make := drawn.get(claim):
            make(parts[k // 2 * 2 + 1, k % 2])
    figure.supxlabel(BARS, x=0.01, ha="left", fontsize=9, color=GREY)
    spread_labels(figure)
    return figure


def _head(figure: FigureBase, claim: str, verdicts: Sequence[Verdict]) -> None:
    """Write the verdicts on a claim, its question and its effect."""
    for k, verdict in enumerate(verdicts):
        name = f"{verdict.part}: {verdict.verdict}" if verdict.part else verdict.verdict
        colour = COLOURS.get(verdict.verdict, COLOURS[MIXED])
        figure.text(
            0.02 + 0.5 * k, 0.95, name[0].upper() + name[1:], va="top", fontsize=13, color=colour, weight="bold"
        )
    told_effects = [f"{told(one.effect, one.unit)} {one.measure}" for one in verdicts if one.effect]
    for place, text, size, colour, weight in (
        (0.72, f"{claim}  {claims.QUESTIONS[claim]}", 10, "#1c2129", "bold"),
        (0.36, (told_effects or [verdicts[0].because])[-1], 9, GREY, "normal"),
    ):
        text = textwrap.shorten(text, 170)
        text = textwrap.fill(text, LINE * 10 // size)
        figure.text(0.02, place, text, va="top", fontsize=size, color=colour, weight=weight, linespacing=1.15)


def _drawn(tables: Mapping[str, Sequence[Record]]) -> dict[str, Callable[[FigureBase], str]]:
    """Return, for each claim that there are records of, what draws it into a figure and says what it shows."""
    found: dict[str, Callable[[FigureBase], str]] = {}
    if losses := c1.losses(tables.get("rotate", ())):
        found["C1"] = partial(_rotation, losses)
    if shares := c2.conditions(tables.get("correlate", ())):
        found["C2"] = partial(_correlation, shares)
    records = tables.get("freeze", ())
    if rows := c3.next_layers(records, c3.TRAINED):
        found["C3"] = partial(_freezing, rows, c3.next_layers(records, c3.INITIAL))
    if barriers := c4.matched(tables.get("connectivity", ())):
        found["C4"] = partial(_connectivity, tables["connectivity"], barriers)
    return found


def svg(figure: Figure, name: str, variables: bool) -> str:
    """Return a figure as SVG, the same for the same figure, its ids beginning with `name`.

    variables: colours are the page's, `var(--red)` and so on, and there is no XML head.
    """
    page = io.StringIO()
    kind = "none" if variables else "path"  # a page has its own font; elsewhere DejaVu Sans may not be installed
    with matplotlib.rc_context({"svg.fonttype": kind, "svg.hashsalt": "basiscli"}):
        figure.savefig(page, format="svg", metadata={"Date": None, "Creator": None}, transparent=variables)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", page.getvalue())
    if variables:
        text = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _variable(colour[0]), text)
        text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", text[text.index("<svg") :])
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    return text


def _variable(colour: str) -> str:
    """Return what the page calls a colour: by its name, the ink for other shades of grey; other colours as they are."""
    channels = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    if colour not in NAMES and max(channels) - min(channels) > GREYEST:
        return colour
    return f"var(--{NAMES.get(colour, 'ink')})"


LOOKS = {c1.NETWORKS: HELD_OUT, c1.LINEAR: CEILING, c1.UNTRAINED: NULL}


def _rotation(losses: Mapping[tuple[str, int], Sequence[Record]], figure: FigureBase) -> str:
    """rho by layer: of the networks after both retrainings, of linear twins and of untrained networks."""
    layers = list(dict.fromkeys(row["layer"] for rows in losses.values() for row in rows))
    (axis,) = _axes(figure, "rho = ln(loss ratio)")
    longest = max(epochs for _, epochs in losses)
    said = []
    for k, ((what, epochs), rows) in enumerate(sorted(losses.items(), reverse=True)):
        colour = IN_SAMPLE if what == c1.NETWORKS and epochs < longest else LOOKS[what]
        estimates = [statistics.over_sample(c1.of_layer(row).values()) for row in rows]
        places = [layers.index(row["layer"]) + 0.06 * (k - len(losses) / 2) for row in rows]
        name = f"{epochs} epochs" if what == c1.NETWORKS else f"{what}, {epochs}"
        _points(axis, places, estimates, colour, name)
        said += [f"{what}, {epochs} epochs, {row['layer']}: {told(e)}" for row, e in zip(rows, estimates, strict=True)]
    _threshold(axis, c1.FLAT, "refutes below")
    _finish(axis, layers)
    return "Log ratio of training losses, rotation over permutation, by layer. " + "; ".join(said) + "."


def _correlation(found: Mapping[tuple[float, str], c2.Layers], figure: FigureBase) -> str:
    """Share of the way from the rotated null to the aligned ceiling, by layer, beside its zeros."""
    (axis,) = _axes(figure, "share of the way, %")
    widths = [width for width, condition in found if condition == c2.TRAINED] or [width for width, _ in found]
    lines = [(key, colour) for key, colour in (
        ((max(widths), c2.TRAINED), HELD_OUT), ((min(widths), c2.TRAINED), GREY), ((max(widths), c2.HALF), IN_SAMPLE),
        ((max(widths), c2.LINEAR), CEILING), ((max(widths), c2.UNTRAINED), NULL),
    ) if key in found]  # fmt: skip
    layers = list(dict.fromkeys(layer for key, _ in lines for layer in found[key].layers))
    said = []
    for k, (key, colour) in enumerate(dict(lines).items()):
        one = found[key]
        estimates = [one.share(layer) for layer in one.layers]
        count = len(estimates) if key == lines[0][0] else 1
        places = [layers.index(layer) + 0.06 * (k - len(lines) / 2) for layer in one.layers]
        name = f"width {name_of(key[0])}" if key[1] == c2.TRAINED else key[1]
        _points(axis, places, estimates, colour, name, scale=100, count=count)
        said += [f"{name} {layer}: {told(e, '%', count)}" for layer, e in zip(one.layers, estimates, strict=True)]
    _threshold(axis, 100 * c2.FAR, "far from it: below 50")
    _threshold(axis, 100 * c2.NEAR, "one basis: above 80")
    axis.set_ylim(min(-12, axis.get_ylim()[0]), 105)
    _finish(axis, layers)
    return "Share of the way from the rotated null to the aligned ceiling, by layer. " + "; ".join(said) + "."


def _freezing(
    rows: Mapping[int, Sequence[Record]], untrained: Mapping[int, Sequence[Record]], figure: FigureBase
) -> str:
    """Rises after each frozen prefix, over donors: of the space above, of the axes below, with an untrained donor."""
    panels = _axes(figure, "", panels=2)
    said = []
    for axis, part in zip(panels, c3.PARTS, strict=True):
        bounds: set[float] = set()
        for k, (field, words, bound, unit) in enumerate(c3.RISES[part]):
            estimates = [c3.over_donors(of, field) for of in rows.values()]
            name = words.removeprefix("rise of the ").removesuffix(" over the rotated null")
            colour = (HELD_OUT, IN_SAMPLE)[k]
            _points(axis, np.arange(len(rows)) + 0.08 * k - 0.04, estimates, colour, name)
            for place, prefix in enumerate(rows):
                values = [row[field] for row in untrained.get(prefix, ()) if row.get(field) is not None]
                axis.plot(
                    [place + 0.08 * k - 0.2] * len(values), values, "D", color=colour, markersize=4, fillstyle="none"
                )
            if bound not in bounds:
                _threshold(axis, bound, f"refutes below {bound}" if not bounds else f"share: {bound}")
            bounds.add(bound)
            said += [f"{p} frozen, {words}: {told(e, unit)}" for p, e in zip(rows, estimates, strict=True)]
        axis.set_ylabel(f"rise, {part}", fontsize=9, color=GREY)
    _finish(panels[0], [])
    first = [f"{prefix}, at {of[0]['layer']}" for prefix, of in rows.items()]
    _finish(panels[1], first, "layers frozen (open diamonds: untrained donor)")
    return "Rises in the next layer after frozen layers, over donors. " + "; ".join(said) + "."


def _connectivity(records: Sequence[Record], rows: Sequence[Record], figure: FigureBase) -> str:
    """Log ratios of barriers against width, also at equal correlation, above the correlations."""
    above, below = _axes(figure, "ln(barrier ratio)", panels=2)
    at = np.arange(len(rows))
    worse = {name: c4.degraded(records, rows, name) for name in (CIRCLE, FEWER)}
    lines = [(rows, HELD_OUT, "matched"), (worse[CIRCLE], IN_SAMPLE, "circle"), (worse[FEWER], CEILING, "fewer images")]
    for k, (of, colour, name) in enumerate(lines):
        if of:
            _points(above, at + 0.05 * k, [estimate_of(row, c4.LOSS) for row in of], colour, name)
            _points(below, at + 0.05 * k, [estimate_of(row, "correlation") for row in of], colour, name)
    logs = np.log2([float(row["width"]) for row in rows])
    steepest = rows[0][c4.LOSS] + c4.SLOPE * (logs - logs[0])
    above.plot(at, steepest, "--", color=THRESHOLD, linewidth=1.2)
    label_ends(above, [(steepest[-1], "refutes if flatter", THRESHOLD)])
    null = [Estimate(mean([row.get("standardised_rotated_held_out_mean")])) for row in rows]
    _points(below, at, null, GREY, "rotated null")
    below.set_ylim(0, 1)
    _finish(above, [])
    names = [name_of(row["width"]) for row in rows]
    _finish(below, names, "width")
    below.set_ylabel("correlation", fontsize=9, color=GREY)
    said = [
        f"width {name}: log ratio {told(estimate_of(row, c4.LOSS))}, correlation {row['correlation']:.2f}"
        for name, row in zip(names, rows, strict=True)
    ]
    return (
        "Log ratio of loss barriers, matched over unmatched, and correlation, against width. " + "; ".join(said) + "."
    )


def _axes(figure: FigureBase, label: str, panels: int = 1) -> Sequence[Axes]:
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[1.3, 1][:panels])[:, 0]
    axes[0].set_ylabel(label, fontsize=9, color=GREY)
    return axes


def _points(
    axis: Axes,
    at: Iterable[float],
    estimates: Sequence[Estimate],
    colour: str,
    name: str,
    scale: float = 1,
    count: int = 1,
) -> None:
    """Draw estimates with their intervals, the name beside the last one."""
    at, values = list(at), scale * np.array([one.value for one in estimates], dtype=float)
    if not np.isfinite(values).any():
        return
    ends = scale * np.array([one.interval(bonferroni(count)) for one in estimates], dtype=float).T
    bars = np.nan_to_num(np.abs(ends - values))
    axis.errorbar(
        at, values, bars, color=colour, linewidth=1.6, elinewidth=1.2, capsize=2.5, marker="o", markersize=3.5
    )
    label_ends(axis, [(values[-1], name, colour)])


def _threshold(axis: Axes, value: float, name: str) -> None:
    """Draw the line at which a claim is decided, and the zero."""
    axis.axhline(value, color=THRESHOLD, linewidth=1.2, linestyle="--")
    axis.axhline(0, color=GREY, linewidth=0.8)
    label_ends(axis, [(value, name, THRESHOLD)])


def _finish(axis: Axes, ticks: Sequence[str], label: str = "") -> None:
    if ticks:
        broken = sum(map(len, ticks)) > SIDE_BY_SIDE and len(ticks) < MANY
        name_layers(axis, [re.sub(r"/|, ", r"\g<0>\n", name) for name in ticks] if broken else ticks)
        axis.set_xlim(-0.3, len(ticks) - 1 + 0.25)
        axis.set_xlabel(label, fontsize=9, color=GREY)
    axis.tick_params(labelsize=9, colors=GREY)
    axis.tick_params(axis="x", labelsize=9 if len(ticks) < MANY else 7)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(GREY)
