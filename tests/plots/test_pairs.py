"""The figure of several networks: marks lie where the numbers are."""

from basiscli.plots.pairs import LABELLED, Row, pairs_figure
from tests.helpers.figures import assert_readable


def marks(figure, marker: str) -> list[float]:
    """Where the marks of a kind lie, from the top row to that of the mean."""
    (axis,) = figure.axes
    return [float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == marker]


def test_every_pair_has_its_score_null_and_ceiling():
    pairs = [Row("a and b", 0.5, (0.1, 0.2, 0.3), 0.9), Row("a and c", 0.6, (0.2, 0.3, 0.4), 0.8)]
    figure = pairs_figure(pairs, Row("mean of 2", 0.55, (0.15, 0.25, 0.35), 0.85, (0.4, 0.7)), "rotated")
    assert_readable(figure)
    assert "bar: 95 % of the draws of the rotated null" in figure.get_suptitle()
    assert marks(figure, "o") == [0.5, 0.6, 0.55]
    assert marks(figure, "|") == [0.2, 0.9, 0.3, 0.8, 0.25, 0.85]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a and b", "a and c", "mean of 2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "rotated null", "matched, held out", "aligned ceiling",
    ]  # fmt: skip


def test_what_is_undefined_is_left_out():
    figure = pairs_figure([Row("a and b", None)], Row("mean of 1", None), None)
    assert marks(figure, "o") == marks(figure, "|") == []


def test_many_pairs_stay_on_a_page():
    many = [Row(str(k), 0.5) for k in range(500)]
    figure = pairs_figure(many, Row("mean", 0.5), None)
    assert figure.get_size_inches()[1] < 0.3 * LABELLED
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["mean"]
