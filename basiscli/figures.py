"""Figures, drawn by matplotlib's object interface into PNG files; nothing here opens a window or keeps state."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from basiscli.analysis.pairs import LayerPair

UNITS_SHOWN = 80  # a finer matrix would lose its diagonal between the pixels
DPI = 160
GREY, IN_SAMPLE, HELD_OUT = "#5a6270", "#8fa8c8", "#c8553d"


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


def pair(name_a: str, name_b: str, layers: Sequence[LayerPair]) -> Figure:
    """Draw two networks: for each layer, r before and after matching, and the matched correlations' distribution."""
    rows = len(layers)
    figure = Figure(figsize=(9.4, 0.9 + 2.75 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.02, hspace=0.04)
    figure.suptitle(f"{name_a}  and  {name_b}", fontsize=11, x=0.01, ha="left", color=GREY)
    axes = figure.subplots(rows, 3, squeeze=False, width_ratios=(1, 1, 1.3))
    limit = max(0.1, np.ceil(10 * max(np.quantile(np.abs(one.scores.r), 0.999) for one in layers)) / 10)
    image = None
    for (before, after, histogram), one in zip(axes, layers, strict=True):
        first, matched = _orders(one)
        image = _matrix(before, one.scores.r[np.ix_(*first)], limit)
        _matrix(after, one.scores.r[np.ix_(*matched)], limit)
        units = " and ".join(f"{u:,}" for u in dict.fromkeys(one.scores.units))
        shown = f"\n{UNITS_SHOWN} shown" if max(one.scores.units) > UNITS_SHOWN else ""
        before.set_ylabel(f"{one.layer}\n{units} units{shown}", fontsize=9)
        _distribution(histogram, one)
    for axis, title in zip(axes[0], ("as they come", "matched, best pairs first", "matched correlations"), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
    bar = figure.colorbar(image, ax=axes[:, :2], location="bottom", shrink=0.5, aspect=40, pad=0.01, extend="both")
    bar.set_label("correlation of two units", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    axes[-1, 2].set_xlabel("correlation", fontsize=9)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG under a temporary name and rename it."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        FigureCanvasAgg(figure).print_figure(partial, format="png", dpi=DPI)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _orders(one: LayerPair) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the units of A and B to show as they come, and matched with the best pairs first."""
    units_a, units_b = one.scores.units
    permutation = one.scores.permutation
    a = np.flatnonzero(permutation >= 0)
    a = a[np.argsort(-one.scores.r[a, permutation[a]], kind="stable")]
    b = permutation[a]
    a = np.append(a, np.setdiff1d(np.arange(units_a), a))
    b = np.append(b, np.setdiff1d(np.arange(units_b), b))
    spread = [np.unique(np.linspace(0, u - 1, min(u, UNITS_SHOWN)).astype(int)) for u in (units_a, units_b)]
    return (spread[0], spread[1]), (a[spread[0]], b[spread[1]])


def _matrix(axis: Axes, r: np.ndarray, limit: float):
    axis.set(xticks=[], yticks=[])
    axis.set_box_aspect(1)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return axis.imshow(r, cmap=_diverging(), vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")


def _distribution(axis: Axes, one: LayerPair) -> None:
    """Draw the matched correlations in sample and held out, each with its mean."""
    found = one.scores
    values = np.concatenate([found.in_sample, found.held_out])
    edges = np.linspace(min(-0.2, values.min(initial=0)), 1, 41)
    for sample, colour, filled in ((found.in_sample, IN_SAMPLE, True), (found.held_out, HELD_OUT, False)):
        axis.hist(
            sample,
            edges,
            density=True,
            color=colour,
            histtype="stepfilled" if filled else "step",
            alpha=0.75 if filled else 1,
            linewidth=1.4,
        )
    axis.margins(y=0.28)
    labels = (("in sample", found.matched, "#5b7ba6"), ("held out", found.matched_held_out, HELD_OUT))
    for height, (label, score, colour) in zip((0.97, 0.87), labels, strict=True):
        if score is None:
            continue
        axis.axvline(score, ymax=height - 0.04, color=colour, linewidth=1, linestyle=(0, (4, 2)))
        side, shift = ("left", 0.012) if score < 0.6 else ("right", -0.012)
        axis.text(
            score + shift,
            height,
            f"{label} {score:.2f}",
            color=colour,
            fontsize=8.5,
            ha=side,
            va="top",
            transform=axis.get_xaxis_transform(),
        )
    axis.set(yticks=[], xlim=(edges[0], 1))
    axis.tick_params(labelsize=8, colors=GREY)
    for side in ("left", "top", "right"):
        axis.spines[side].set_visible(False)
