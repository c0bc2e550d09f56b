"""Barriers of curves that are known."""

import numpy as np
import pytest

from basiscli.analysis.barriers import Curve, evenly


def test_the_barrier_of_a_parabola_over_a_slope():
    lambdas = evenly(25)
    curve = Curve(lambdas, 0.5 + 0.3 * lambdas + 4 * 1.7 * lambdas * (1 - lambdas), 0.9 - 0.2 * lambdas)
    found = curve.fields()
    assert found["barrier"] == found["midpoint"] == pytest.approx(1.7)
    assert (found["loss_a"], found["loss_b"]) == (0.5, pytest.approx(0.8))
    assert found["accuracy_barrier"] == pytest.approx(0) and found["accuracy_b"] == pytest.approx(0.7)


def test_where_the_barrier_is_not_at_the_midpoint():
    lambdas = evenly(5)
    curve = Curve(lambdas, np.array([0, 1, 0.5, 4, 0]), np.array([1, 0.4, 0.8, 0.9, 1]))
    found = curve.fields()
    assert (found["barrier"], found["barrier_at"], found["midpoint"]) == (4, 0.75, 0.5)
    assert (found["accuracy_barrier"], found["accuracy_midpoint"]) == (pytest.approx(0.6), pytest.approx(0.2))


def test_a_barrier_lies_over_the_chord_not_where_the_loss_is_highest():
    found = Curve(evenly(3), np.array([0, 6, 10]), np.ones(3)).fields()
    assert (found["barrier"], found["barrier_at"]) == (1, 0.5)
    assert Curve(evenly(3), np.array([0, -1, 0]), np.ones(3)).fields()["barrier"] == 0


@pytest.mark.parametrize("points", [0, 1, 2, 24])
def test_the_midpoint_must_be_among_the_points(points):
    with pytest.raises(ValueError, match="odd"):
        evenly(points)
