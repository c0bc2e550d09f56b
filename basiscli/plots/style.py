"""Common parts of all figures: colours, sizes, axes, labels at the ends of lines, and saving."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure as PlainFigure

from basiscli import atomic
from basiscli.errors import BadInput

DPI = 160
FORMATS = (".png", ".svg", ".pdf")
NOTEBOOK_DPI = 96
MANY = 6  # layers whose names no longer fit side by side
GREY, IN_SAMPLE, HELD_OUT, NULL, CEILING = "#5a6270", "#5b7ba6", "#c8553d", "#8b8f98", "#2f7f79"
CONDITIONS = (NULL, HELD_OUT, IN_SAMPLE, "#a8843a", "#7a5c99")


class Figure(PlainFigure):
    """A figure that a notebook shows even where pyplot was never imported."""

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
    axis.set_xticks(range(len(layers)), layers, **slanted)


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


def label_ends(axis: Axes, at: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write each label beside the end of its line; a label moves up if it would cover the label below."""
    bottom, top = axis.get_ylim()
    step, free = 0.05 * (top - bottom), -np.inf
    for height, label, colour in sorted(labels):
        free = max(height, free + step)
        axis.annotate(label, (at + 0.3, free), color=colour, fontsize=9, va="center", annotation_clip=False)
