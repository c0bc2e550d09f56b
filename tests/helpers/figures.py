"""What a reader of a figure sees of its words."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.text import Text

TOUCH = 0.5  # points by which boxes of two texts may overlap: boxes are a little larger than their letters


def drawn_texts(figure) -> list[Text]:
    """Return the texts that are really drawn, so without those of ticks outside the axes."""
    texts, draw = [], Text.draw

    def record(text, renderer, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            texts.append(text)
        draw(text, renderer, *args, **kwargs)

    with patch.object(Text, "draw", record):
        figure.draw_without_rendering()
    return texts


def assert_readable(figure) -> None:
    """Assert that no text covers another or leaves the figure, that axes have labels, and that a headline is there."""
    boxes = [(text, Text.get_window_extent(text)) for text in drawn_texts(figure)]
    slack = TOUCH * figure.dpi / 72
    for text, box in boxes:
        inside = (box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1)
        assert min(inside) > -slack, f"{text.get_text()!r} leaves the figure"
    straight = [(text, box) for text, box in boxes if text.get_rotation() % 90 == 0]
    for (one, a), (other, b) in combinations(straight, 2):
        over = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(over) < slack, f"{one.get_text()!r} and {other.get_text()!r} cover each other"


def assert_explains_itself(figure, *words: str) -> None:
    """Assert that a headline has the words, and that measures stand beside every row of axes."""
    for word in words:
        assert word in figure.get_suptitle(), figure.get_suptitle()
    for axis in figure.axes:
        first_of_row = axis.get_subplotspec() is not None and axis.get_subplotspec().is_first_col()
        assert axis.get_ylabel() or not first_of_row
