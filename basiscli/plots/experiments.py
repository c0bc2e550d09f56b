"""Figures of experiments, drawn with matplotlib's object interface: no function opens a window or keeps state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from basiscli.analysis.barriers import CIRCLE, DEGRADED, FEWER, LINES, Curve, band, deciding_condition, undegraded
from basiscli.plots.style import (
    CEILING,
    CONDITIONS,
    GREY,
    HELD_OUT,
    IN_SAMPLE,
    NULL,
    Figure,
    diverging,
    draw_intervals,
    field_values,
    headline,
    inches,
    label_ends,
    name_layers,
    plain,
    shade,
    shared_folder,
    spread_labels,
)

KINDS = {
    "orthogonal": HELD_OUT, "permutation": IN_SAMPLE, "signed-permutation": NULL, "relu-symmetry": CEILING,
}  # fmt: skip
PENALTIES = {
    "penalty_accuracy": "accuracy lost, percentage points", "penalty_train_loss": "training loss gained, nats",
}  # fmt: skip
# Of `connectivity`: how a match ends, the words for it, and its look.
SERIES: dict[str, tuple[str, dict]] = {
    "none": ("not matched", {"color": NULL}),
    "": ("matched", {"color": HELD_OUT}),
    CIRCLE: ("degraded (circle)", {"color": IN_SAMPLE, "linewidth": 1.2, "markerfacecolor": "white"}),
    FEWER: ("degraded (fewer images)", {"color": CONDITIONS[3], "linewidth": 1.2, "markerfacecolor": "white"}),
}
DONORS = {"trained": "first layers of a trained network", "initial": "first layers of an untrained one"}


def prefixes_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli freeze` against depth: a column for each donor, a line for each prefix.

    Above is the matched correlation, held out, of the layers after the prefix, with its rotated null (dashed); below is
    the excess. Bars are intervals over networks.
    """
    layers = list(dict.fromkeys(record["layer"] for record in records))
    donors = list(dict.fromkeys(record["donor"] for record in records if record["prefix"])) or [None]
    counts = sorted({record["prefix"] for record in records})
    figure = Figure(figsize=((2.6 + inches(max(len(layers), 3))) * len(donors), 6.8), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04, hspace=0.06)
    panels = figure.subplots(2, len(donors), sharex=True, sharey="row", squeeze=False)
    for column, donor in zip(panels.T, donors, strict=True):
        lines = [[r for r in records if r["prefix"] == k and (not k or r["donor"] == donor)] for k in counts]
        _prefixes(column, [line for line in lines if line], layers, counts)
        if donor:
            column[0].set_title(DONORS[donor], fontsize=9.5, loc="left", color=GREY)
    for axis in panels.flat:
        axis.set_xlim(-0.25, len(layers) - 0.75)
        plain(axis)
    panels[0, 0].set_ylabel("matched correlation, held out\n(dashed: rotated null)", fontsize=9)
    panels[1, 0].set_ylabel("excess over the rotated null\n(a correlation)", fontsize=9)
    headline(
        figure, "Do networks that share their first layers agree more in the next ones? How well their units pair up:",
        f"means over pairs of networks from {records[0]['networks']} seeds; bars: 95 % intervals over networks",
    )  # fmt: skip
    spread_labels(figure)
    return figure


def _prefixes(column: Sequence[Axes], lines: Sequence, layers: Sequence[str], counts: Sequence[int]) -> None:
    """Draw the scores above and their excess below, a line for each prefix of `counts`."""
    labels = []
    for line in lines:
        k = counts.index(line[0]["prefix"])
        look = {"color": shade(k, len(counts)), "zorder": 3}
        at = np.array([layers.index(record["layer"]) for record in line]) + 0.07 * (k - (len(counts) - 1) / 2)
        null = field_values(line, "standardised_rotated_held_out_mean")
        column[0].plot(at, null, linestyle=(0, (4, 2)), marker="_", markersize=10, **look)
        above = draw_intervals(column[0], at, line, "matched_held_out", look)
        below = draw_intervals(column[1], at, line, "standardised_rotated_held_out_excess", look)
        labels.append((above, below, _named(line[0]["prefix"]), str(look["color"])))
    column[1].axhline(0, color=GREY, linewidth=0.8)
    label_ends(column[0], [(above, name, colour) for above, _, name, colour in labels])
    label_ends(column[1], [(below, name, colour) for _, below, name, colour in labels])
    name_layers(column[1], layers)


def rotations_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli rotate`: the penalty of each kind of M over the identity, against depth.

    Left is the accuracy in points, right the training loss; bars are intervals. With several powers of orthogonal M a
    second row shows the penalties against the power, with a line for each layer.
    """
    arms = [record for record in records if record["over"] == "identity" and record["kind"] != "identity"]
    layers = list(dict.fromkeys(record["layer"] for record in arms))
    powers = sorted({record["power"] for record in arms if record["kind"] == "orthogonal"})
    rows = 2 if len(powers) > 1 else 1
    figure = Figure(figsize=(2 * (2.6 + inches(max(len(layers), 2))), 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    whole = [record for record in arms if record["kind"] != "orthogonal" or record["power"] == powers[-1]]
    named = {"orthogonal": f"orthogonal^{powers[-1]:g}"} if powers and powers[-1] != 1 else {}
    lines = [(kind, named.get(kind, kind), KINDS[kind]) for kind in _kinds(whole)]
    for axis, (field, label) in zip(panels[0], PENALTIES.items(), strict=True):
        _penalties(axis, whole, field, layers, "layer", lines, "kind")
        axis.set_ylabel(label, fontsize=9)
        name_layers(axis, layers)
    turned = [record for record in arms if record["kind"] == "orthogonal"]
    for axis, (field, label) in zip(panels[1] if rows == 2 else (), PENALTIES.items(), strict=rows == 2):
        lines = [(layer, layer, _depth(k, len(layers))) for k, layer in enumerate(layers)]
        _penalties(axis, turned, field, powers, "power", lines, "layer")
        axis.set_xticks(range(len(powers)))
        axis.set_ylabel(label, fontsize=9)
        axis.set_xlabel("power of the rotation (0: the identity, 1: the whole of it)", fontsize=9)
        axis.set_xticklabels([f"{power:g}" for power in powers])
    headline(figure, *_protocol(records[0]))
    spread_labels(figure)
    return figure


def _protocol(record: Mapping) -> tuple[str, str]:
    """Describe in words the treatment of the networks, and the panels."""
    place = {"pre": "before", "post": "after"}[record["tap"]]
    where = "every layer up to the one named" if record["cumulative"] else "one layer"
    done = "nothing trained"
    if record["retrain"] != "none":
        parts = {"downstream": "after", "upstream": "before"}[record["retrain"]]
        how = {"reinit": "drawn anew and trained", "continue": "trained on"}[record["start"]]
        done = f"the layers {parts} M {how}"
    return (
        f"What a fixed map M over the units of a layer costs ({record['model']}, {record['activation']}): "
        f"M {place} the nonlinearity of {where}; {done}",
        f"cost: beyond the identity in M's place, trained alike; networks: {record['networks']}, "
        f"repeats: {record['repeats']}; bars: 95 % intervals",
    )


def _kinds(records: Sequence[Mapping]) -> list[str]:
    return [kind for kind in KINDS if any(record["kind"] == kind for record in records)]


def _penalties(axis: Axes, records, field: str, places: Sequence, place: str, lines: Sequence, line: str) -> None:
    """Draw a penalty over `places`, values of the field `place`, a line for each (value, label, colour) of `line`."""
    labels, scale = [], 100 if field == "penalty_accuracy" else 1
    for k, (value, label, colour) in enumerate(lines):
        chosen = [record for record in records if record[line] == value and record[field] is not None]
        if not chosen:
            continue
        shown = [{end: scale * _number(record[f"{field}{end}"]) for end in ("", "_low", "_high")} for record in chosen]
        at = np.array([places.index(record[place]) for record in chosen]) + 0.06 * (k - (len(lines) - 1) / 2)
        labels.append((draw_intervals(axis, at, shown, "", {"color": colour, "zorder": 3}), label, colour))
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xlim(-0.25, len(places) - 0.75)
    plain(axis)
    label_ends(axis, labels)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def paths_figure(
    conditions: Mapping[tuple[tuple[str, str], str], Mapping[tuple[int, int], Curve]], names: Sequence[str] = ()
) -> Figure:
    """Draw loss (above) and accuracy (below) along the path, a column for each split, a line for each condition.

    conditions: for each ((match, correct), split) the curves of pairs of networks. Lines are means over pairs, bands
    intervals over networks; a correction is a dashed line. names: of the networks, for the headline.
    """
    splits = list(dict.fromkeys(split for _, split in conditions))
    done = list(dict.fromkeys(name for name, _ in conditions))
    figure = Figure(figsize=(1.6 + 4.2 * len(splits), 6.6), layout="constrained")
    panels = figure.subplots(2, len(splits), sharex=True, sharey="row", squeeze=False)
    for column, split in zip(panels.T, splits, strict=True):
        for axis, line in zip(column, LINES, strict=True):
            for name in done:
                curves = conditions[name, split]
                lambdas, look = next(iter(curves.values())).lambdas, condition(name, done)
                mean, low, high = band(curves, line)
                axis.plot(lambdas, mean, label=labelled(name), **look)
                axis.fill_between(lambdas, low, high, color=look["color"], alpha=0.12, linewidth=0)
            plain(axis)
            axis.set_xlim(0, 1)
        column[0].set_ylim(bottom=0)
        column[1].set_ylim(0, 1)
        column[0].set_title(f"{split} images", fontsize=9.5, loc="left", color=GREY)
        column[1].set_xticks([0, 0.5, 1], ["A", "½", "B"])
        column[1].set_xlabel("λ: how far on the line from network A to network B", fontsize=9)
    panels[0, 0].set_ylabel("loss (cross-entropy, nats)", fontsize=9)
    panels[1, 0].set_ylabel("accuracy", fontsize=9)
    headline(figure, *_line_of(conditions[done[0], splits[0]], names))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=9, frameon=False)
    return figure


def _line_of(curves: Mapping[tuple[int, int], Curve], names: Sequence[str]) -> tuple[str, ...]:
    """Say between which networks the line is."""
    what = "Loss and accuracy on the straight line between two networks, A and B"
    if len(curves) == 1:
        return (what, f"A and B: {shared_folder(names)}") if names else (what,)
    networks = len({network for pair in curves for network in pair})
    return what, f"lines: means of {len(curves)} pairs; bands: 95 % intervals over {networks} networks"


def connectivity_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli connectivity`: barrier against width beside correlation against width.

    Both sides have the condition that decides (`deciding_condition`) with its degraded matches (hollow marks), on the
    first split of the records. Left is also the barrier without a match; right are the rotated null and the aligned
    ceiling. Bars are intervals over networks. The other conditions stay in the records.
    """
    first = [record for record in records if record["split"] == records[0]["split"]]
    names = list(dict.fromkeys((record["match"], record["correct"]) for record in first))
    match, correct = deciding_condition(names) or names[0]
    lines = {name: sorted((r for r in first if (r["match"], r["correct"]) == name), key=_width) for name in names}
    widths = [record["width"] for record in lines[match, correct]]
    matches = ("none", match, *(match + worse for worse in DEGRADED))
    shown = [(name, correct) for name in dict.fromkeys(matches) if (name, correct) in lines]
    figure = Figure(figsize=(10.8, 5), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    left, right = figure.subplots(1, 2)
    for k, name in enumerate(shown):
        at = np.array([widths.index(record["width"]) for record in lines[name]]) + 0.03 * (k - (len(shown) - 1) / 2)
        label, look = SERIES[name[0].removeprefix(match) if name[0] != "none" else "none"]
        for axis, field in ((left, "barrier"), (right, "correlation")):
            if axis is left or name[0] != "none":
                label_ends(axis, [(draw_intervals(axis, at, lines[name], field, look), label, str(look["color"]))])
    for field, label, colour in (
        ("standardised_aligned_held_out", "aligned ceiling", CEILING),
        ("standardised_rotated_held_out_mean", "rotated null", NULL),
    ):
        end = draw_intervals(right, np.arange(len(widths)), lines[match, correct], field, {"color": colour})
        label_ends(right, [(end, label, colour)])
    _widths(left, right, widths)
    bars = f"bars: 95 % intervals over {max(record['networks'] for record in first)} networks"
    left.set_ylabel(f"loss barrier, {first[0]['split']} images, nats", fontsize=9)
    right.set_ylabel("mean correlation of paired units", fontsize=9)
    how = " and ".join([f"matched by {match}", *([f"corrected by {correct}"] if correct != "none" else [])])
    others = len(names) - len(shown)
    headline(
        figure, "Are wide networks easier to merge (left), and do their units correlate more (right)?",
        f"pairs of networks, {how}; {bars}" + (f"; the table has {others} other conditions" if others else ""),
    )  # fmt: skip
    spread_labels(figure)
    return figure


def _widths(left: Axes, right: Axes, widths: Sequence[float]) -> None:
    """Finish the axes of barriers and of correlations over widths."""
    for axis in (left, right):
        plain(axis)
        axis.set_xticks(range(len(widths)), [f"{width:g}" for width in widths])
        axis.set_xlim(-0.25, len(widths) - 0.75)
        axis.set_xlabel("width", fontsize=9)
    left.set_yscale("symlog", linthresh=0.01, linscale=0.3)
    left.set_ylim(0, 1.4 * left.get_ylim()[1])  # room for marks, which a logarithm puts at the upper end
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.set_ylim(min(0, right.get_ylim()[0]), 1)


def _width(record: Mapping) -> float:
    return record["width"]


def condition(name: tuple[str, str], names: Sequence[tuple[str, str]]) -> dict:
    """Return the style of a condition (match, correct): colour by match, dash by correction, hollow if degraded."""
    matches = list(dict.fromkeys(undegraded(match) for match, _ in names))
    corrections = list(dict.fromkeys(correct for _, correct in names))
    colour = CONDITIONS[matches.index(undegraded(name[0])) % len(CONDITIONS)]
    undone = name[0] != undegraded(name[0])
    return {
        "color": colour,
        "linestyle": ("-", (0, (4, 2)), (0, (1, 1.5)))[corrections.index(name[1]) % 3],
        "linewidth": 1 if undone else 1.8,
        "markerfacecolor": "white" if undone else colour,
    }


def labelled(name: tuple[str, str]) -> str:
    match, correct = name
    return f"{'not matched' if match == 'none' else match}{'' if correct == 'none' else f', {correct}'}"


def _named(prefix: int) -> str:
    return {0: "none shared", 1: "first layer shared"}.get(prefix, f"first {prefix} shared")


def _depth(k: int, count: int) -> str:
    """Return the colour of the k-th of some layers: from light to dark blue."""
    return to_hex(diverging()(0.32 - 0.31 * k / max(count - 1, 1)))
