"""Undoing part of a matching: it is a permutation, and correlates as asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basiscli.analysis.degrade import undone


def matched(units: int, seed: int = 0) -> np.ndarray:
    """Return correlations of matched units, high on the diagonal."""
    rng = np.random.default_rng(seed)
    r = rng.uniform(-0.2, 0.3, (units, units))
    np.fill_diagonal(r, rng.uniform(0.4, 0.9, units))
    return r


def correlation(r: np.ndarray, p: np.ndarray) -> float:
    return float(r[np.arange(len(p)), p].mean())


@pytest.mark.parametrize("goal", [0.1, 0.3, 0.5, 0.6])
def test_the_goal_is_hit(goal):
    r = matched(256)
    p = undone(r, goal, np.random.default_rng(1))
    assert sorted(p) == list(range(256))
    assert correlation(r, p) == pytest.approx(goal, abs=1 / 256)


@given(units=st.integers(1, 9), goal=st.floats(-1, 1), seed=st.integers(0, 99))
def test_no_other_number_of_units_comes_nearer(units, goal, seed):
    r = matched(units, seed)
    found = undone(r, goal, np.random.default_rng(seed))
    order = np.random.default_rng(seed).permutation(units)
    tried = []
    for k in [0, *range(2, units + 1)]:
        p = np.arange(units)
        p[order[:k]] = np.roll(order[:k], -1)
        tried.append(abs(correlation(r, p) - goal))
    if r.diagonal().mean() > goal:
        assert abs(correlation(r, found) - goal) == pytest.approx(min(tried))
    else:
        assert (found == np.arange(units)).all()


def test_what_correlates_no_more_than_the_goal_is_left():
    r = matched(16)
    np.testing.assert_array_equal(undone(r, float(r.diagonal().mean()), np.random.default_rng(0)), np.arange(16))
    np.testing.assert_array_equal(undone(r[:1, :1], 0, np.random.default_rng(0)), [0])
