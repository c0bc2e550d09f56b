"""Figures of experiments, drawn with matplotlib's object interface: no function opens a window or keeps state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from basiscli.analysis.barriers import LINES, Curve, band, undegraded
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
    inches,
    label_ends,
    name_layers,
    plain,
    shade,
)

KINDS = {
    "orthogonal": HELD_OUT, "permutation": IN_SAMPLE, "signed-permutation": NULL, "relu-symmetry": CEILING,
}  # fmt: skip
PENALTIES = {"penalty_accuracy": "accuracy lost (points)", "penalty_train_loss": "training loss gained"}


def prefixes_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli freeze` against depth: a column for each donor, a line for each prefix.

    Above is the matched correlation, held out, of the layers after the prefix, with its rotated null (dashed); below is
    the excess. Bars are intervals over networks.
    """
    layers = list(dict.fromkeys(record["layer"] for record in records))
    donors = list(dict.fromkeys(record["donor"] for record in records if record["prefix"])) or [None]
    counts = sorted({record["prefix"] for record in records})
    figure = Figure(figsize=((2.2 + inches(len(layers))) * len(donors), 6.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04, hspace=0.06)
    panels = figure.subplots(2, len(donors), sharex=True, sharey="row", squeeze=False)
    for column, donor in zip(panels.T, donors, strict=True):
        lines = [[r for r in records if r["prefix"] == k and (not k or r["donor"] == donor)] for k in counts]
        labels = []
        for k, line in enumerate(lines):
            look = {"color": shade(k, len(counts)), "zorder": 3}
            at = np.array([layers.index(record["layer"]) for record in line]) + 0.07 * (k - (len(counts) - 1) / 2)
            column[0].plot(
                at,
                field_values(line, "standardised_rotated_held_out_mean"),
                linestyle=(0, (4, 2)),
                marker="_",
                markersize=10,
                **look,
            )
            draw_intervals(column[0], at, line, "matched_held_out", look)
            end = draw_intervals(column[1], at, line, "standardised_rotated_held_out_excess", look)
            labels.append((end, _named(line[0]["prefix"]), str(look["color"])))
        column[1].axhline(0, color=GREY, linewidth=0.8)
        label_ends(column[1], len(layers) - 1, [label for label in labels if np.isfinite(label[0])])
        name_layers(column[1], layers)
        column[0].set_title(_donor(donor), fontsize=10, loc="left", color=GREY)
    for axis in panels.flat:
        axis.set_xlim(-0.25, len(layers) - 0.75)
        plain(axis)
    panels[0, 0].set_ylabel("matched correlation, held out\n(dashed: rotated null)", fontsize=9)
    panels[1, 0].set_ylabel("excess over the null", fontsize=9)
    return figure


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
        axis.set_ylabel(label)
        name_layers(axis, layers)
    turned = [record for record in arms if record["kind"] == "orthogonal"]
    for axis, (field, label) in zip(panels[1] if rows == 2 else (), PENALTIES.items(), strict=rows == 2):
        lines = [(layer, layer, _depth(k, len(layers))) for k, layer in enumerate(layers)]
        _penalties(axis, turned, field, powers, "power", lines, "layer")
        axis.set(xticks=range(len(powers)), ylabel=label, xlabel="power of the rotation")
        axis.set_xticklabels([f"{power:g}" for power in powers])
    figure.suptitle(_protocol(records[0]), fontsize=9, x=0.01, ha="left", color=GREY)
    return figure


def _protocol(record: Mapping) -> str:
    """Describe in words the treatment of the networks, and the panels."""
    place = {"pre": "before", "post": "after"}[record["tap"]]
    where = "every layer up to the one named" if record["cumulative"] else "one layer"
    done = "nothing trained"
    if record["retrain"] != "none":
        parts = {"downstream": "after", "upstream": "before"}[record["retrain"]]
        how = {"reinit": "drawn anew and trained", "continue": "trained on"}[record["start"]]
        done = f"the layers {parts} M {how}"
    return (
        f"{record['model']}, {record['activation']}: M {place} the nonlinearity of {where}; {done}\n"
        f"what M costs over the identity, trained alike; networks: {record['networks']}, repeats: {record['repeats']}, "
        "95 % intervals"
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
    label_ends(axis, len(places) - 1, labels)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def paths_figure(
    conditions: Mapping[tuple[tuple[str, str], str], Mapping[tuple[int, int], Curve]],
) -> Figure:
    """Draw loss (above) and accuracy (below) along the path, a column for each split, a line for each condition.

    conditions: for each ((match, correct), split) the curves of pairs of networks. Lines are means over pairs, bands
    intervals over networks; a correction is a dashed line.
    """
    splits = list(dict.fromkeys(split for _, split in conditions))
    names = list(dict.fromkeys(name for name, _ in conditions))
    figure = Figure(figsize=(1.6 + 4.2 * len(splits), 6.2), layout="constrained")
    panels = figure.subplots(2, len(splits), sharex=True, sharey="row", squeeze=False)
    for column, split in zip(panels.T, splits, strict=True):
        for axis, line in zip(column, LINES, strict=True):
            for name in names:
                curves = conditions[name, split]
                lambdas, look = next(iter(curves.values())).lambdas, condition(name, names)
                mean, low, high = band(curves, line)
                axis.plot(lambdas, mean, label=labelled(name), **look)
                axis.fill_between(lambdas, low, high, color=look["color"], alpha=0.12, linewidth=0)
            plain(axis)
            axis.set_xlim(0, 1)
        column[0].set_ylim(bottom=0)
        column[1].set_ylim(0, 1)
        pairs = conditions[names[0], split]
        networks = len({network for pair in pairs for network in pair})
        means = f": means of {len(pairs)} pairs, 95 % intervals over {networks} networks" if len(pairs) > 1 else ""
        column[0].set_title(f"{split} images{means}", fontsize=9, loc="left", color=GREY)
        column[1].set_xticks([0, 0.5, 1], ["A", "½", "B"])
        column[1].set_xlabel("λ, on the line from network A to network B", fontsize=9)
    panels[0, 0].set_ylabel("loss", fontsize=9)
    panels[1, 0].set_ylabel("accuracy", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=9, frameon=False)
    return figure


def connectivity_figure(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli connectivity`: barrier against width beside correlation against width.

    Left is a line for each condition, on the first split of the records. Right is the matched correlation, held out,
    between its rotated null and its aligned ceiling, and the correlation under every match. Hollow marks are degraded
    matches, bars are intervals over networks.
    """
    first = [record for record in records if record["split"] == records[0]["split"]]
    widths = sorted({record["width"] for record in first})
    names = list(dict.fromkeys((record["match"], record["correct"]) for record in first))
    lines = {name: sorted((r for r in first if (r["match"], r["correct"]) == name), key=_width) for name in names}
    figure = Figure(figsize=(10.8, 5.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    left, right = figure.subplots(1, 2)
    for k, (name, line) in enumerate(lines.items()):
        at = np.array([widths.index(record["width"]) for record in line]) + 0.03 * (k - (len(names) - 1) / 2)
        look = condition(name, names)
        draw_intervals(left, at, line, "barrier", look | {"label": labelled(name)})
        if name[1] == names[0][1] and name[0] != "none":
            draw_intervals(right, at, line, "correlation", look)
    places = np.arange(len(widths))
    labels = [
        (draw_intervals(right, places, lines[names[0]], field, {"color": colour}), label, colour)
        for field, label, colour in (
            ("standardised_aligned_held_out", "aligned ceiling", CEILING),
            ("matched_held_out", "matched,\nheld out", "#2b2f36"),
            ("standardised_rotated_held_out_mean", "rotated null", NULL),
        )
    ]
    for axis in (left, right):
        plain(axis)
        axis.set_xticks(at, [f"{width:g}" for width in widths])
        axis.set_xlabel("width", fontsize=9)
    left.set_yscale("symlog", linthresh=0.01, linscale=0.3)
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.set_ylim(min(0, right.get_ylim()[0]), 1)
    label_ends(right, at[-1] - 0.15, [label for label in labels if np.isfinite(label[0])])
    bars = f"bars: 95 % intervals over {max(record['networks'] for record in first)} networks"
    left.set_title(f"barrier of the loss, {first[0]['split']} images; {bars}", fontsize=9, loc="left", color=GREY)
    right.set_title("correlation of paired units; colours: under each match", fontsize=9, loc="left", color=GREY)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=8.5, frameon=False, handlelength=4)
    return figure


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


def _donor(name: str | None) -> str:
    return f"first layers of {'an untrained' if name == 'initial' else 'a trained'} network" if name else ""


def _depth(k: int, count: int) -> str:
    """Return the colour of the k-th of some layers: from light to dark blue."""
    return to_hex(diverging()(0.32 - 0.31 * k / max(count - 1, 1)))
