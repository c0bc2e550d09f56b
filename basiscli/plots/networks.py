"""Figures of correlations: two networks unit by unit, and all pairs layer by layer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from basiscli.analysis.assess import Assessment, summarise
from basiscli.analysis.correlate import Scores
from basiscli.analysis.nulls import Null
from basiscli.plots.style import (
    CEILING,
    GREY,
    HELD_OUT,
    IN_SAMPLE,
    NULL,
    Figure,
    diverging,
    headline,
    inches,
    label_ends,
    name_layers,
    plain,
    shared_folder,
    spread_labels,
)

UNITS_SHOWN = 80  # a finer matrix would lose its diagonal between the pixels


def pair_figure(name_a: str, name_b: str, layers: Sequence[Assessment]) -> Figure:
    """Draw two networks: for each layer, r before and after matching, and the matched correlations' distribution.

    The distribution is that of held-out correlations, over those of the rotated null or, without a null, in sample.
    """
    rows = len(layers)
    figure = Figure(figsize=(9.4, 1.4 + 2.75 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.04)
    axes = figure.subplots(rows, 3, squeeze=False, width_ratios=(1, 1, 1.3))
    limit = max(
        0.1, np.ceil(10 * max(np.quantile(np.abs(assessment.pair.scores.r), 0.999) for assessment in layers)) / 10
    )
    image = None
    for (before, after, histogram), assessment in zip(axes, layers, strict=True):
        scores = assessment.pair.scores
        first, matched = _orders(scores)
        image = matrix(before, scores.r[np.ix_(*first)], limit)
        matrix(after, scores.r[np.ix_(*matched)], limit)
        units = " and ".join(f"{u:,}" for u in dict.fromkeys(scores.units))
        shown = f"\n{UNITS_SHOWN} shown" if max(scores.units) > UNITS_SHOWN else ""
        before.set_ylabel(f"{assessment.pair.layer}\n{units} units{shown}", fontsize=9)
        _distribution(histogram, scores, assessment.nulls.get("rotated"))
    titles = ("units in their own order", "in pairs, the best pair first", "correlations of the pairs")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9.5, loc="left", color=GREY)
    bar = figure.colorbar(
        image, ax=axes[:, :2], location="bottom", shrink=0.5, aspect=40, pad=0.01, extend="both", ticks=MaxNLocator(4)
    )
    bar.set_label("correlation of two units", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axes[-1, 2].set_xlabel("correlation of two paired units", fontsize=9)
    headline(
        figure, f"Correlations of the units of two networks: {shared_folder([name_a, name_b])}",
        "one row of panels a layer; matrices: a unit of the first network a row, of the second a column",
    )  # fmt: skip
    return figure


def layers_figure(assessed: Sequence[Sequence[Assessment]]) -> Figure:
    """Draw the held-out matched correlation, layer by layer, between its rotated null and its aligned ceiling.

    Null and ceiling are the standardised ones.

    assessed: for each layer, all pairs of networks. Points are pairs, lines their means, bars intervals over networks;
    the band holds 95 % of the rotated draws of a pair.
    """
    figure = Figure(figsize=(max(6.8, 3.2 + 1.2 * inches(len(assessed))), 4.8), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(assessed))
    summaries = [summarise(of_layer) for of_layer in assessed]
    labels = []
    if with_null := "rotated" in assessed[0][0].nulls:
        draws = [[pair.nulls["rotated"].standardised_held_out for pair in of_layer] for of_layer in assessed]
        bands = np.array([_band(of_layer) for of_layer in draws])
        axis.fill_between(at, bands[:, 0], bands[:, 2], color=NULL, alpha=0.3, linewidth=0)
        axis.plot(at, bands[:, 1], color=NULL, linewidth=1.4)
        labels.append((bands[-1, 1], "rotated null", "#6d717a"))
        labels.append(draw_line(axis, at, summaries, "standardised_aligned_held_out", "aligned ceiling", CEILING))
    for k, of_layer in enumerate(assessed):
        scores = [pair.fields["matched_held_out"] for pair in of_layer if pair.fields["matched_held_out"] is not None]
        beside = k + 0.06 + 0.05 * (np.arange(len(scores)) % 3)
        axis.scatter(beside, scores, s=10, color=HELD_OUT, alpha=0.35, linewidth=0, zorder=3)
    labels.append(draw_line(axis, at, summaries, "matched", "matched in sample", IN_SAMPLE, faint=True))
    labels.append(draw_line(axis, at, summaries, "matched_held_out", "matched held out", HELD_OUT))
    axis.set_ylim(min(0, axis.get_ylim()[0]), 1.03)
    axis.axhline(1, color=GREY, linewidth=0.8)
    label_ends(axis, [*labels, (1, "the same units", GREY)])
    name_layers(axis, [of_layer[0].pair.layer for of_layer in assessed])
    axis.set_xlim(-0.25, at[-1] + 0.25)
    axis.set_ylabel("mean correlation of paired units", fontsize=9)
    plain(axis)
    headline(figure, *_told(assessed, with_null))
    spread_labels(figure)
    return figure


def _told(assessed: Sequence[Sequence[Assessment]], with_null: bool) -> tuple[str, str]:
    """Say in words what the figure of layers shows."""
    pairs = len(assessed[0])
    networks = len({network for assessment in assessed[0] for network in (assessment.pair.a, assessment.pair.b)})
    marks = [
        f"points: the {pairs} pairs of {networks} networks" if pairs > 1 else "one pair of networks",
        *(["lines: their means; bars: 95 % intervals over networks"] if networks > 2 else []),
        *(["band: 95 % of the draws of the rotated null"] if with_null else []),
    ]
    return "How well the units of networks from different seeds pair up, layer by layer", "; ".join(marks)


def _orders(scores: Scores) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return the units of A and B to draw in their own order, and in the order of pairs, the best pair first."""
    permutation = scores.permutation
    a = np.flatnonzero(permutation >= 0)
    a = a[np.argsort(-scores.r[a, permutation[a]], kind="stable")]
    matched = [a, permutation[a]]
    matched = [np.append(m, np.setdiff1d(np.arange(u), m)) for m, u in zip(matched, scores.units, strict=True)]
    shown = [np.unique(np.linspace(0, u - 1, min(u, UNITS_SHOWN)).astype(int)) for u in scores.units]
    return tuple(shown), tuple(m[chosen] for m, chosen in zip(matched, shown, strict=True))


def matrix(axis: Axes, r: np.ndarray, limit: float):
    axis.set(xticks=[], yticks=[])
    axis.set_box_aspect(1)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis.imshow(r, cmap=diverging(), vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")


def _distribution(axis: Axes, scores: Scores, null: Null | None) -> None:
    """Draw the held-out correlations over those of the null (without a null: in sample), with the means."""
    held_out = ("held out", scores.held_out, scores.matched_held_out, HELD_OUT)
    if null is None:
        behind = ("in sample", scores.in_sample, scores.matched, IN_SAMPLE)
    else:
        draws = null.standardised_held_out if len(null.standardised_held_out) else null.in_sample
        behind = ("rotated null", null.correlations, float(draws.mean()) if len(draws) else None, NULL)
    lowest = min(values.min(initial=0) for _, values, *_ in (behind, held_out))
    edges = np.linspace(min(-0.2, lowest), 1, 41)
    axis.hist(behind[1], edges, density=True, color=behind[3], alpha=0.5, histtype="stepfilled")
    axis.hist(held_out[1], edges, density=True, color=HELD_OUT, histtype="step", linewidth=1.4)
    axis.margins(y=0.4)
    for height, look, (label, _, score, colour) in zip(
        (0.98, 0.88), ("filled", "line"), (behind, held_out), strict=True
    ):
        if score is None:
            continue
        axis.axvline(score, ymax=0.72, color=colour, linewidth=1, linestyle=(0, (4, 2)))
        axis.text(
            0.02, height, f"{label} ({look}): mean {score:.2f}", color=colour, fontsize=8.5, va="top",
            transform=axis.transAxes,
        )  # fmt: skip
    axis.set(yticks=[], xlim=(edges[0], 1))
    axis.set_ylabel("share of pairs", fontsize=8, color=GREY)
    axis.tick_params(labelsize=8, colors=GREY)
    for edge in ("left", "top", "right"):
        axis.spines[edge].set_visible(False)


def _band(draws: Sequence[np.ndarray]) -> np.ndarray:
    """Return the 2.5 % quantile, mean and 97.5 % quantile of the draws of a pair, each averaged over pairs."""
    known = [draw for draw in draws if len(draw)]
    if not known:
        return np.full(3, np.nan)
    return np.mean([(np.quantile(draw, 0.025), draw.mean(), np.quantile(draw, 0.975)) for draw in known], axis=0)


def draw_line(
    axis: Axes, at: np.ndarray, summaries: Sequence[dict], field: str, label: str, colour: str, faint: bool = False
) -> tuple[float, str, str]:
    """Draw a field's means over layers with their intervals; return the height of its label, the label, its colour."""
    ends = np.array([[summary[f"{field}{end}"] for end in ("", "_low", "_high")] for summary in summaries], dtype=float)
    axis.plot(at, ends[:, 0], color=colour, linewidth=1.2 if faint else 2, linestyle=(0, (4, 2)) if faint else "-")
    if not faint:
        bars = np.nan_to_num(np.abs(ends[:, 1:] - ends[:, :1])).T
        axis.errorbar(at, ends[:, 0], bars, color=colour, linewidth=0, elinewidth=1.6, capsize=3)
    return ends[-1, 0], label, colour
