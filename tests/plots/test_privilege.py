"""Figures of privilege and of units: every unit has its point, and words can be read."""

import numpy as np

from basiscli.plots.privilege import POINTS, Strip, privilege_figure
from basiscli.plots.units import Row, mosaic, units_figure
from tests.helpers.figures import assert_explains_itself, assert_readable


def test_units_lie_beside_rotated_axes_and_untrained_units():
    units = np.array([0.5, 2, np.nan, 40])
    strips = [Strip("hidden1", units, np.zeros((10, 90)), units - 1), Strip("hidden2", units, np.zeros((10, 3)))]
    figure = privilege_figure(strips, "3 networks")
    assert_readable(figure)
    assert_explains_itself(figure, "3 networks", "thick line: their mean")
    (axis,) = figure.axes
    heights = [points.get_offsets()[:, 1].tolist() for points in axis.collections]
    assert [len(strip) for strip in heights] == [POINTS, 3, 3, 30, 3]
    assert heights[1] == [0.5, 2, 40] and heights[2] == [-0.5, 1, 39]
    means = [line.get_ydata()[0] for line in axis.lines if line.get_linewidth() > 2]
    np.testing.assert_allclose(means, [0, 42.5 / 3, 39.5 / 3, 0, 42.5 / 3])


def test_a_mosaic_holds_every_image():
    images = np.stack([np.full((2, 3, 1), k) for k in range(5)]).astype(np.uint8)
    images[:, 0, 0] = 9
    whole = mosaic(images)
    assert whole.shape == (8, 11)
    assert [whole[3 * (k // 3), 4 * (k % 3)] for k in range(5)] == [1] * 5
    assert mosaic(np.zeros((4, 2, 2, 3))).shape == (5, 5, 3)


def test_units_have_their_numbers_and_layers():
    images = np.random.default_rng(0).integers(0, 255, (9, 8, 8, 1))
    rows = [
        Row("hidden1\nmost universal", [3, 12], [0.8, 0.7], [images] * 2),
        Row("hidden1\nleast universal", [5], [0.1], [images]),
    ]
    figure = units_figure(rows, "seed0.h5")
    assert_readable(figure)
    assert_explains_itself(figure, "seed0.h5")
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == [
        "unit 3: 0.80",
        "unit 12: 0.70",
        "unit 5: 0.10",
    ]
