"""Figures, drawn by matplotlib's object interface into PNG files; nothing here opens a window or keeps state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure

from basiscli.analysis.assess import Assessment, summarise
from basiscli.analysis.barriers import DEGRADED, LINES, Curve, band
from basiscli.analysis.correlate import Scores
from basiscli.analysis.nulls import Null

UNITS_SHOWN = 80  # a finer matrix would lose its diagonal between the pixels
DPI = 160
MANY = 6  # layers whose names no longer fit side by side
GREY, IN_SAMPLE, HELD_OUT, NULL, CEILING = "#5a6270", "#5b7ba6", "#c8553d", "#8b8f98", "#2f7f79"
CONDITIONS = (NULL, HELD_OUT, IN_SAMPLE, "#a8843a", "#7a5c99")

KINDS = {
    "orthogonal": HELD_OUT, "permutation": IN_SAMPLE, "signed-permutation": NULL, "relu-symmetry": CEILING,
}  # fmt: skip
PENALTIES = {"penalty_accuracy": "accuracy lost (points)", "penalty_train_loss": "training loss gained"}


def _diverging(steps: int = 256) -> ListedColormap:
    """Blue over near-white to red, even in lightness and chroma (straight lines in Ottosson's Oklab, 2020)."""
    t = np.linspace(-1, 1, steps)
    lightness = 0.98 - 0.56 * np.abs(t)
    hue = np.radians(np.where(t < 0, 255, 30))
    a, b = 0.155 * np.abs(t) * np.cos(hue), 0.155 * np.abs(t) * np.sin(hue)
    cone = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ cone**3, 0, 1)
    return ListedColormap(np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).T)


def pair(name_a: str, name_b: str, layers: Sequence[Assessment]) -> Figure:
    """Draw two networks: for each layer, r before and after matching, and the matched correlations' distribution.

    The distribution is that of the pairs in sample and held out; where there is a rotated null, held out beside it.
    """
    rows = len(layers)
    figure = Figure(figsize=(9.4, 0.9 + 2.75 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.04)
    figure.suptitle(f"{name_a}  and  {name_b}", fontsize=11, x=0.01, ha="left", color=GREY)
    axes = figure.subplots(rows, 3, squeeze=False, width_ratios=(1, 1, 1.3))
    limit = max(0.1, np.ceil(10 * max(np.quantile(np.abs(one.pair.scores.r), 0.999) for one in layers)) / 10)
    image = None
    for (before, after, histogram), one in zip(axes, layers, strict=True):
        scores = one.pair.scores
        first, matched = _orders(scores)
        image = _matrix(before, scores.r[np.ix_(*first)], limit)
        _matrix(after, scores.r[np.ix_(*matched)], limit)
        units = " and ".join(f"{u:,}" for u in dict.fromkeys(scores.units))
        shown = f"\n{UNITS_SHOWN} shown" if max(scores.units) > UNITS_SHOWN else ""
        before.set_ylabel(f"{one.pair.layer}\n{units} units{shown}", fontsize=9)
        _distribution(histogram, scores, one.nulls.get("rotated"))
    for axis, title in zip(axes[0], ("as they come", "matched, best pairs first", "matched correlations"), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
    bar = figure.colorbar(image, ax=axes[:, :2], location="bottom", shrink=0.5, aspect=40, pad=0.01, extend="both")
    bar.set_label("correlation of two units", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axes[-1, 2].set_xlabel("correlation", fontsize=9)
    return figure


def layers(assessed: Sequence[Sequence[Assessment]], seed: int = 0) -> Figure:
    """Draw the held-out matched correlation, layer by layer, between its rotated null and its ceiling.

    assessed: for each layer, all pairs of networks. Points are pairs, lines their means, bars intervals over networks;
    the band holds 95 % of the rotated draws of a pair.
    """
    figure = Figure(figsize=(max(6, 3.2 + 1.2 * _inches(len(assessed))), 4.4), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(assessed))
    summaries = [summarise(of_layer, seed) for of_layer in assessed]
    labels = []
    if "rotated" in assessed[0][0].nulls:
        bands = np.array([_band([one.nulls["rotated"].held_out for one in of_layer]) for of_layer in assessed])
        axis.fill_between(at, bands[:, 0], bands[:, 2], color=NULL, alpha=0.3, linewidth=0)
        axis.plot(at, bands[:, 1], color=NULL, linewidth=1.4)
        labels.append((bands[-1, 1], "same space, any axes", "#6d717a"))
        labels.append(_line(axis, at, summaries, "aligned_held_out", "best rotation", CEILING))
    for k, of_layer in enumerate(assessed):
        points = [one.fields["matched_held_out"] for one in of_layer if one.fields["matched_held_out"] is not None]
        axis.scatter(
            k + 0.06 + 0.05 * (np.arange(len(points)) % 3),
            points,
            s=10,
            color=HELD_OUT,
            alpha=0.35,
            linewidth=0,
            zorder=3,
        )
    labels.append(_line(axis, at, summaries, "matched", "matched in sample", IN_SAMPLE, faint=True))
    labels.append(_line(axis, at, summaries, "matched_held_out", "matched held out", HELD_OUT))
    axis.set_ylim(min(0, axis.get_ylim()[0]), 1.03)
    axis.axhline(1, color=GREY, linewidth=0.8)
    labels.append((1, "one basis", GREY))
    _label_ends(axis, at[-1], [label for label in labels if np.isfinite(label[0])])
    _name_layers(axis, [of_layer[0].pair.layer for of_layer in assessed])
    axis.set_xlim(-0.25, at[-1] + 0.25)
    axis.set_ylabel("mean correlation of paired units", fontsize=9)
    pairs = len(assessed[0])
    axis.set_title(f"{pairs} pair{'s' if pairs > 1 else ''} of networks", fontsize=10, loc="left", color=GREY)
    axis.tick_params(labelsize=9, colors=GREY)
    axis.grid(axis="y", color="#e8e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    return figure


def prefixes(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli freeze`: the layers after the prefix by depth, a column a donor, a line a prefix.

    Above, the matched correlation, held out, over its rotated null (dashed); below, the excess. Bars are intervals over
    networks.
    """
    layers = list(dict.fromkeys(record["layer"] for record in records))
    donors = list(dict.fromkeys(record["donor"] for record in records if record["prefix"])) or [None]
    counts = sorted({record["prefix"] for record in records})
    figure = Figure(figsize=((2.2 + _inches(len(layers))) * len(donors), 6.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04, hspace=0.06)
    panels = figure.subplots(2, len(donors), sharex=True, sharey="row", squeeze=False)
    for column, donor in zip(panels.T, donors, strict=True):
        lines = [[r for r in records if r["prefix"] == k and (not k or r["donor"] == donor)] for k in counts]
        labels = []
        for k, line in enumerate(lines):
            look = {"color": _shade(k, len(counts)), "zorder": 3}
            at = np.array([layers.index(record["layer"]) for record in line]) + 0.07 * (k - (len(counts) - 1) / 2)
            column[0].plot(
                at, _column(line, "rotated_held_out_mean"), linestyle=(0, (4, 2)), marker="_", markersize=10, **look
            )
            _intervals(column[0], at, line, "matched_held_out", look)
            end = _intervals(column[1], at, line, "rotated_held_out_excess", look)
            labels.append((end, _named(line[0]["prefix"]), look["color"]))
        column[1].axhline(0, color=GREY, linewidth=0.8)
        _label_ends(column[1], len(layers) - 1, [label for label in labels if np.isfinite(label[0])])
        _name_layers(column[1], layers)
        column[0].set_title(_donor(donor), fontsize=10, loc="left", color=GREY)
    for axis in panels.flat:
        axis.set_xlim(-0.25, len(layers) - 0.75)
        _plain(axis)
    panels[0, 0].set_ylabel("matched correlation, held out\n(dashed: rotated null)", fontsize=9)
    panels[1, 0].set_ylabel("excess over the null", fontsize=9)
    return figure


def rotations(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli rotate`: what each kind of M costs over the identity, against depth.

    Left the accuracy in points, right the training loss; bars are intervals. With several powers of orthogonal M a
    second row has the penalties against the power, a line a layer.
    """
    arms = [record for record in records if record["over"] == "identity" and record["kind"] != "identity"]
    layers = list(dict.fromkeys(record["layer"] for record in arms))
    powers = sorted({record["power"] for record in arms if record["kind"] == "orthogonal"})
    rows = 2 if len(powers) > 1 else 1
    figure = Figure(figsize=(2 * (2.6 + _inches(max(len(layers), 2))), 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, squeeze=False)
    whole = [record for record in arms if record["kind"] != "orthogonal" or record["power"] == powers[-1]]
    named = {"orthogonal": f"orthogonal^{powers[-1]:g}"} if powers and powers[-1] != 1 else {}
    lines = [(kind, named.get(kind, kind), KINDS[kind]) for kind in _kinds(whole)]
    for axis, (field, label) in zip(panels[0], PENALTIES.items(), strict=True):
        _penalties(axis, whole, field, layers, "layer", lines, "kind")
        axis.set_ylabel(label)
        _name_layers(axis, layers)
    turned = [record for record in arms if record["kind"] == "orthogonal"]
    for axis, (field, label) in zip(panels[1] if rows == 2 else (), PENALTIES.items(), strict=rows == 2):
        lines = [(layer, layer, _depth(k, len(layers))) for k, layer in enumerate(layers)]
        _penalties(axis, turned, field, powers, "power", lines, "layer")
        axis.set(xticks=range(len(powers)), ylabel=label, xlabel="power of the rotation")
        axis.set_xticklabels([f"{power:g}" for power in powers])
    figure.suptitle(_protocol(records[0]), fontsize=9, x=0.01, ha="left", color=GREY)
    return figure


def _inches(layers: int) -> float:
    """Return the width that so many layers take: less each once their names are slanted."""
    return 0.9 * layers if layers < MANY else 2.5 + 0.4 * layers


def _name_layers(axis: Axes, layers: Sequence[str]) -> None:
    """Write the layers' names below their places 0, 1, ..., slanted if there are many."""
    slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if len(layers) >= MANY else {}
    axis.set_xticks(range(len(layers)), layers, **slanted)


def _protocol(record: Mapping) -> str:
    """Say in words what was done to the networks, and what is shown of it."""
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
        labels.append((_intervals(axis, at, shown, "", {"color": colour, "zorder": 3}), label, colour))
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xlim(-0.25, len(places) - 0.75)
    _plain(axis)
    _label_ends(axis, len(places) - 1, labels)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def paths(conditions: Mapping[tuple[tuple[str, str], str], Mapping[tuple[int, int], Curve]], seed: int = 0) -> Figure:
    """Draw loss (above) and accuracy (below) along the path, a column a split, a line a condition.

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
                lambdas, look = next(iter(curves.values())).lambdas, _condition(name, names)
                mean, low, high = band(curves, line, seed)
                axis.plot(lambdas, mean, label=_labelled(name), **look)
                axis.fill_between(lambdas, low, high, color=look["color"], alpha=0.12, linewidth=0)
            _plain(axis)
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


def connectivity(records: Sequence[Mapping]) -> Figure:
    """Draw the records of `basiscli connectivity`: barrier against width beside correlation against width.

    Left, a line a condition, on the first split that was evaluated; right, the matched correlation, held out, between
    its rotated null and the best rotation, and the correlation under every match. Hollow marks are matches undone in
    part, bars intervals over networks.
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
        look = _condition(name, names)
        _intervals(left, at, line, "barrier", look | {"label": _labelled(name)})
        if name[1] == names[0][1] and name[0] != "none":
            _intervals(right, at, line, "correlation", look)
    at = np.arange(len(widths))
    labels = [
        (_intervals(right, at, lines[names[0]], field, {"color": colour}), label, colour)
        for field, label, colour in (
            ("aligned_held_out", "best rotation", CEILING),
            ("matched_held_out", "matched,\nheld out", "#2b2f36"),
            ("rotated_held_out_mean", "its null", NULL),
        )
    ]
    for axis in (left, right):
        _plain(axis)
        axis.set_xticks(at, [f"{width:g}" for width in widths])
        axis.set_xlabel("width", fontsize=9)
    left.set_yscale("symlog", linthresh=0.01, linscale=0.3)
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.set_ylim(min(0, right.get_ylim()[0]), 1)
    _label_ends(right, at[-1] - 0.15, [label for label in labels if np.isfinite(label[0])])
    bars = f"bars: 95 % intervals over {max(record['networks'] for record in first)} networks"
    left.set_title(f"barrier of the loss, {first[0]['split']} images; {bars}", fontsize=9, loc="left", color=GREY)
    right.set_title("correlation of paired units; colours: under each match", fontsize=9, loc="left", color=GREY)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", ncols=3, fontsize=8.5, frameon=False, handlelength=4)
    return figure


def _width(record: Mapping) -> float:
    return record["width"]


def _condition(name: tuple[str, str], names: Sequence[tuple[str, str]]) -> dict:
    """Return the look of a condition (match, correct): a colour a match, a dash a correction, hollow if undone."""
    matches = list(dict.fromkeys(match.removesuffix(DEGRADED) for match, _ in names))
    corrections = list(dict.fromkeys(correct for _, correct in names))
    colour = CONDITIONS[matches.index(name[0].removesuffix(DEGRADED)) % len(CONDITIONS)]
    undone = name[0].endswith(DEGRADED)
    return {
        "color": colour,
        "linestyle": ("-", (0, (4, 2)), (0, (1, 1.5)))[corrections.index(name[1]) % 3],
        "linewidth": 1 if undone else 1.8,
        "markerfacecolor": "white" if undone else colour,
    }


def _labelled(name: tuple[str, str]) -> str:
    match, correct = name
    return f"{'not matched' if match == 'none' else match}{'' if correct == 'none' else f', {correct}'}"


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=9, colors=GREY)
    axis.grid(axis="y", color="#e8e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _intervals(axis: Axes, at: np.ndarray, line: Sequence[Mapping], field: str, look: Mapping) -> float:
    """Draw a field of records with its intervals, and return the last value."""
    score = _column(line, field)
    bars = np.nan_to_num(np.abs([_column(line, f"{field}{end}") - score for end in ("_low", "_high")]))
    axis.errorbar(at, score, bars, elinewidth=1.4, capsize=3, marker="o", markersize=4, **{"linewidth": 2} | look)
    return score[-1]


def _column(records: Sequence[Mapping], field: str) -> np.ndarray:
    return np.array([record[field] for record in records], dtype=float)


def _named(prefix: int) -> str:
    return {0: "none shared", 1: "first layer shared"}.get(prefix, f"first {prefix} shared")


def _donor(name: str | None) -> str:
    return f"first layers of {'an untrained' if name == 'initial' else 'a trained'} network" if name else ""


def _shade(k: int, count: int) -> str:
    """Return the colour of the k-th line: grey for the free networks, then from blue to red."""
    return GREY if not k else to_hex(_diverging()(0.08 + 0.84 * (k - 1) / max(count - 2, 1)))


def _depth(k: int, count: int) -> str:
    """Return the colour of the k-th of some layers: from light to dark blue."""
    return to_hex(_diverging()(0.32 - 0.31 * k / max(count - 1, 1)))


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG under a temporary name and rename it."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        FigureCanvasAgg(figure).print_figure(partial, format="png", dpi=DPI)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _orders(scores: Scores) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the units of A and B to show as they come, and matched with the best pairs first."""
    permutation = scores.permutation
    a = np.flatnonzero(permutation >= 0)
    a = a[np.argsort(-scores.r[a, permutation[a]], kind="stable")]
    matched = [a, permutation[a]]
    matched = [np.append(m, np.setdiff1d(np.arange(u), m)) for m, u in zip(matched, scores.units, strict=True)]
    shown = [np.unique(np.linspace(0, u - 1, min(u, UNITS_SHOWN)).astype(int)) for u in scores.units]
    return tuple(shown), tuple(m[chosen] for m, chosen in zip(matched, shown, strict=True))


def _matrix(axis: Axes, r: np.ndarray, limit: float):
    axis.set(xticks=[], yticks=[])
    axis.set_box_aspect(1)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis.imshow(r, cmap=_diverging(), vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")


def _distribution(axis: Axes, scores: Scores, null: Null | None) -> None:
    """Draw the held-out correlations over the null's, or where there is none over those in sample, with the means."""
    held_out = ("held out", scores.held_out, scores.matched_held_out, HELD_OUT)
    if null is None:
        behind = ("in sample", scores.in_sample, scores.matched, IN_SAMPLE)
    else:
        behind = (
            "rotated",
            null.correlations,
            float(null.correlations.mean()) if len(null.correlations) else None,
            NULL,
        )
    lowest = min(values.min(initial=0) for _, values, *_ in (behind, held_out))
    edges = np.linspace(min(-0.2, lowest), 1, 41)
    axis.hist(behind[1], edges, density=True, color=behind[3], alpha=0.5, histtype="stepfilled")
    axis.hist(held_out[1], edges, density=True, color=HELD_OUT, histtype="step", linewidth=1.4)
    axis.margins(y=0.28)
    for height, (label, _, score, colour) in zip((0.97, 0.87), (behind, held_out), strict=True):
        if score is None:
            continue
        axis.axvline(score, ymax=height - 0.04, color=colour, linewidth=1, linestyle=(0, (4, 2)))
        side, shift = ("left", 0.012) if score < 0.6 else ("right", -0.012)
        place = {"ha": side, "va": "top", "transform": axis.get_xaxis_transform()}
        axis.text(score + shift, height, f"{label} {score:.2f}", color=colour, fontsize=8.5, **place)
    axis.set(yticks=[], xlim=(edges[0], 1))
    axis.tick_params(labelsize=8, colors=GREY)
    for side in ("left", "top", "right"):
        axis.spines[side].set_visible(False)


def _band(draws: Sequence[np.ndarray]) -> np.ndarray:
    """Return the 2.5 % quantile, mean and 97.5 % quantile of the draws of a pair, each averaged over pairs."""
    known = [one for one in draws if len(one)]
    if not known:
        return np.full(3, np.nan)
    return np.mean([(np.quantile(one, 0.025), one.mean(), np.quantile(one, 0.975)) for one in known], axis=0)


def _line(
    axis: Axes, at: np.ndarray, summaries: Sequence[dict], field: str, label: str, colour: str, faint: bool = False
) -> tuple[float, str, str]:
    """Draw a field's means over layers with their intervals; return where its label goes, the label and its colour."""
    found = np.array(
        [[summary[f"{field}{end}"] for end in ("", "_low", "_high")] for summary in summaries], dtype=float
    )
    axis.plot(at, found[:, 0], color=colour, linewidth=1.2 if faint else 2, linestyle=(0, (4, 2)) if faint else "-")
    if not faint:
        bars = np.nan_to_num(np.abs(found[:, 1:] - found[:, :1])).T
        axis.errorbar(at, found[:, 0], bars, color=colour, linewidth=0, elinewidth=1.6, capsize=3)
    return found[-1, 0], label, colour


def _label_ends(axis: Axes, at: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write each label beside the end of its line, moved up where it would cover the one below."""
    bottom, top = axis.get_ylim()
    step, free = 0.05 * (top - bottom), -np.inf
    for height, label, colour in sorted(labels):
        free = max(height, free + step)
        axis.annotate(label, (at + 0.3, free), color=colour, fontsize=9, va="center", annotation_clip=False)
