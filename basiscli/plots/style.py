"""Common parts of all figures: colours, sizes, axes, headlines, names at the ends of lines, and saving."""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure as PlainFigure
from matplotlib.text import Annotation, Text

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.names import shown

DPI = 160
FORMATS = (".png", ".svg", ".pdf")
NOTEBOOK_DPI = 96
ASIDE = 6  # points between an axis and the names of its lines
LINE = 11.5  # points between the middles of two names
CHARACTERS = 13.5  # of a headline, an inch of the figure
MANY = 6  # layers whose names no longer fit side by side
GREY, IN_SAMPLE, HELD_OUT, NULL, CEILING = "#5a6270", "#5b7ba6", "#c8553d", "#8b8f98", "#2f7f79"
INK, FAINT = "#2b2f36", "#c3c7ce"
CONDITIONS = (NULL, HELD_OUT, IN_SAMPLE, "#a8843a", "#7a5c99")


class Figure(PlainFigure):
    """A figure that a notebook shows even where pyplot was never imported. No name in it is a formula."""

    def draw(self, renderer: Any) -> None:
        with matplotlib.rc_context({"text.parse_math": False}):  # for labels of ticks, which drawing makes
            for text in self.findobj(Text):
                text.set_parse_math(False)
                text.set_text(shown(text.get_text()))
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_figure(buffer, format="png", dpi=NOTEBOOK_DPI)
        return buffer.getvalue()


def diverging(steps: int = 256) -> ListedColormap:
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


def inches(layers: int) -> float:
    """Return the width of an axis of layers; each layer is narrower once the names are slanted."""
    return 0.9 * layers if layers < MANY else 2.5 + 0.4 * layers


def name_layers(axis: Axes, layers: Sequence[str]) -> None:
    """Write the layers' names below their places 0, 1, ..., slanted if there are many."""
    slanted: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if len(layers) >= MANY else {}
    axis.set_xticks(range(len(layers)), [shown(layer) for layer in layers], **slanted)


def plain(axis: Axes) -> None:
    axis.tick_params(labelsize=9, colors=GREY)
    axis.grid(axis="y", color="#e8e9ec", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)


def draw_intervals(axis: Axes, at: np.ndarray, line: Sequence[Mapping], field: str, look: Mapping) -> float:
    """Draw a field of records with its intervals, and return the last value."""
    score = field_values(line, field)
    bars = np.nan_to_num(np.abs([field_values(line, f"{field}{end}") - score for end in ("_low", "_high")]))
    axis.errorbar(at, score, bars, elinewidth=1.4, capsize=3, marker="o", markersize=4, **{"linewidth": 2, **look})
    return score[-1]


def field_values(records: Sequence[Mapping], field: str) -> np.ndarray:
    return np.array([record[field] for record in records], dtype=float)


def shade(k: int, count: int) -> str:
    """Return the colour of the k-th line: grey for the free networks, then from blue to red."""
    return GREY if not k else to_hex(diverging()(0.08 + 0.84 * (k - 1) / max(count - 2, 1)))


def save(figure: PlainFigure, path: str | Path) -> None:
    """Write a figure as its suffix says (FORMATS), whole or not at all. Raises BadInput for another suffix."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise BadInput(f"{path}: a figure is written as {', '.join(FORMATS)}")
    with atomic.replacing(Path(path)) as partial:
        FigureCanvasAgg(figure).print_figure(partial, format=suffix[1:], dpi=DPI)


def headline(figure: PlainFigure, title: str, *notes: str) -> None:
    """Say above all axes what is drawn: a title and notes, each on lines of its own, wrapped at the figure's width."""
    columns = int(CHARACTERS * figure.get_size_inches()[0])
    lines = [line for text in (title, *notes) for line in textwrap.wrap(text, columns)]
    figure.suptitle("\n".join(lines), fontsize=9.5, x=0.01, ha="left", color=GREY)


def shared_folder(names: Sequence[str]) -> str:
    """Return names of files in words, their common folder once: `seed0.h5 and seed1.h5, both in runs/digits-mlp`."""
    folders = {str(Path(name).parent) for name in names}
    if len(folders) > 1 or (folder := folders.pop()) == ".":
        return " and ".join(names)
    return f"{' and '.join(Path(name).name for name in names)}, both in {folder}"


def label_ends(axis: Axes, labels: Iterable[tuple[float, str, str]]) -> None:
    """Write names of lines to the right of the axis: (height of the line's end, name, colour) each.

    `spread_labels` moves them apart when the figure is complete.
    """
    for height, label, colour in labels:
        if np.isfinite(height):
            axis.annotate(
                label, (1, height), xycoords=("axes fraction", "data"), xytext=(ASIDE, 0), textcoords="offset points",
                color=colour, fontsize=9, va="center", annotation_clip=False,
            )  # fmt: skip


def spread_labels(figure: PlainFigure) -> None:
    """Move the names of lines apart that would lie on each other, and keep them beside their axis."""
    figure.draw_without_rendering()  # the layout decides how many points lie between two values
    points = 72 / figure.dpi
    for axis in figure.axes:
        labels = [text for text in axis.texts if isinstance(text, Annotation)]
        heights = points * axis.transData.transform([(0, text.xy[1]) for text in labels] or np.empty((0, 2)))[:, 1]
        order = np.argsort(heights, kind="stable")
        box = axis.get_window_extent()
        places = spread(heights[order], LINE, points * box.y0, points * box.y1)
        for k, place in zip(order, places, strict=True):
            labels[k].set_position((ASIDE, place - heights[k]))


def spread(heights: Sequence[float], gap: float, bottom: float, top: float) -> np.ndarray:
    """Return places for labels at increasing heights: `gap` apart or more, each as near its height as that allows.

    This is isotonic regression of heights[k] - gap k, by pooling of neighbours. Afterwards labels that lie below
    `bottom` or above `top` are moved inside, as long as there is room.
    """
    pools: list[tuple[float, int]] = []  # means of neighbours that touch, less the gaps below them; how many they are
    for k, height in enumerate(heights):
        pools.append((height - gap * k, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (upper, n), (lower, m) = pools.pop(), pools.pop()
            pools.append(((upper * n + lower * m) / (n + m), n + m))
    places = np.array([place for place, count in pools for _ in range(count)])
    inside = np.minimum(places, top - gap * (len(places) - 0.5))
    return np.maximum(inside, bottom + gap / 2) + gap * np.arange(len(places))
