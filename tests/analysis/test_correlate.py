"""Planted answers for the matched, held-out, semi-matched and identity scores."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basiscli.analysis.correlate import assign, compare, correlation, semi_matched
from basiscli.analysis.moments import halves
from tests.helpers.features import relu_features, split


def test_correlation_equals_numpy():
    a, b = relu_features(0), relu_features(1, units=7)
    expected = np.corrcoef(a.T, b.T)[:12, 12:]
    np.testing.assert_allclose(compare(split(a, b)).r, expected, atol=2e-6)


@pytest.mark.parametrize("drop_dead", [False, True])
def test_a_planted_permutation_comes_back(drop_dead):
    a = relu_features(0)
    order = np.random.default_rng(9).permutation(12)
    found = compare(split(a, a[:, order] * 3 + 1), drop_dead)
    assert found.matched == pytest.approx(1, abs=1e-6)
    assert found.matched_held_out == pytest.approx(1, abs=1e-6)
    assert found.semi_matched == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(order[found.permutation], np.arange(12))
    assert found.identity < 0.7


def test_units_that_live_on_one_half_only_do_not_spoil_a_planted_permutation():
    a = relu_features(0)
    second = halves(len(a), 1, 0)
    for unit, half in ((0, ~second), (1, ~second), (2, second)):  # one image each: dead on the other half
        a[:, unit] = 0
        a[np.flatnonzero(half)[unit], unit] = 1
    a[:, 3] = 0.1  # and dead on both
    order = np.random.default_rng(9).permutation(12)
    found = compare(split(a, a[:, order]), drop_dead=True)
    assert found.dead == (1, 1)
    assert found.matched == pytest.approx(1, abs=1e-6)
    assert found.matched_held_out == pytest.approx(1, abs=1e-6)
    counted = compare(split(a, a[:, order]))
    assert counted.matched == pytest.approx(11 / 12, abs=1e-6)
    assert counted.matched_held_out == pytest.approx(8 / 9, abs=1e-6)


def half_dead(a: np.ndarray, *units: int) -> np.ndarray:
    """Return activations in which some units vary on the second half only."""
    a = a.copy()
    a[np.ix_(~halves(len(a), 1, 0), units)] = 0
    return a


def test_units_that_live_on_one_half_only_are_matched_and_counted():
    """Of independent networks no pair is left out, and each counts as a plain computation on the data says."""
    a, b = half_dead(relu_features(0), 2, 7, 9), relu_features(1)
    found = compare(split(a, b))
    second = halves(len(a), 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        tables = [np.nan_to_num(np.corrcoef(a[rows].T, b[rows].T)[:12, 12:]) for rows in (~second, second)]
    expected = [table[assign(other)] for table, other in (tables, tables[::-1])]
    assert len(found.held_out) == 24
    assert found.matched_held_out == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_pair_is_left_out_only_where_both_units_are_silent_on_one_half():
    """Unit 2 of either network lives on the second half, unit 3 of A alone; a dead unit of both counts 0."""
    a = half_dead(relu_features(0), 2)
    a[:, 5] = 0
    b = a.copy()
    found = compare(split(half_dead(a, 3), b))
    # Matched on the first half, unit 3 meets its copy on the second by elimination; on the first it scores 0.
    assert found.held_out.size == 22
    assert found.matched_held_out == pytest.approx((2 * 9 + 1) / 22, abs=1e-5)


def test_independent_noise_scores_nothing_held_out():
    rng = np.random.default_rng(0)
    rows, units, draws = 500, 40, 12
    found = [
        compare(split(rng.standard_normal((rows, units)), rng.standard_normal((rows, units)))) for _ in range(draws)
    ]
    # 2 × units correlations of 250 rows each, of standard deviation 1/√250.
    error = 1 / np.sqrt(rows / 2 * 2 * units * draws)
    assert abs(np.mean([one.matched_held_out for one in found])) < 4 * error
    assert np.mean([one.matched for one in found]) > 0.07


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), units_a=st.integers(1, 6), units_b=st.integers(1, 7))
def test_the_assignment_is_the_best_of_all(seed, units_a, units_b):
    r = np.random.default_rng(seed).uniform(-1, 1, (units_a, units_b))
    table = r if units_a <= units_b else r.T
    small, large = table.shape
    best = max(sum(table[i, j] for i, j in enumerate(chosen)) for chosen in permutations(range(large), small))
    assert r[assign(r)].sum() == pytest.approx(best)


def test_seven_by_seven_against_all_permutations():
    r = np.random.default_rng(1).uniform(-1, 1, (7, 7))
    best = max(r[np.arange(7), list(chosen)].mean() for chosen in permutations(range(7)))
    assert r[assign(r)].mean() == pytest.approx(best)


def test_matching_is_signed():
    a = np.random.default_rng(0).standard_normal((1000, 1))
    found = compare(split(a, -a))
    assert found.matched == pytest.approx(-1, abs=1e-6)
    assert found.identity == pytest.approx(-1, abs=1e-6)


def test_dead_units_correlate_zero_or_are_dropped():
    a, b = relu_features(0), relu_features(0)
    a[:, [2, 5]] = 0
    b[:, 5] = 7.7
    kept, dropped = compare(split(a, b)), compare(split(a, b), drop_dead=True)
    assert kept.dead == dropped.dead == (2, 1)
    assert (kept.r[[2, 5]] == 0).all() and (kept.r[:, 5] == 0).all()
    assert kept.identity == kept.matched == pytest.approx(10 / 12, abs=1e-6)
    assert dropped.identity == pytest.approx(1, abs=1e-6)
    assert dropped.matched == pytest.approx(1, abs=1e-6)
    assert dropped.matched_held_out == pytest.approx(1, abs=1e-6)
    assert (dropped.permutation[[2, 5]] == -1).all()


def test_everything_dead():
    nothing = np.zeros((20, 3))
    assert compare(split(nothing, nothing)).matched == 0
    dropped = compare(split(nothing, nothing), drop_dead=True)
    assert (dropped.matched, dropped.matched_held_out, dropped.semi_matched) == (None, None, None)


def test_duplicate_units_match_one_to_one():
    a = relu_features(0)
    b = a.copy()
    b[:, 1] = b[:, 0]  # unit 1 of A has lost its partner
    found = compare(split(a, b))
    assert sorted(found.permutation) == list(range(12))
    assert found.matched == pytest.approx((11 + found.r[1, 1]) / 12, abs=1e-6)
    assert found.semi_matched > found.matched


@pytest.mark.parametrize("swap", [False, True])
def test_unequal_widths_match_the_smaller_side(swap):
    a = relu_features(0)
    b = a[:, [3, 1, 7]]
    found = compare(split(b, a) if swap else split(a, b))
    assert found.identity is None
    assert found.units == ((3, 12) if swap else (12, 3))
    assert found.matched == pytest.approx(1, abs=1e-6)
    assert found.matched_held_out == pytest.approx(1, abs=1e-6)
    if swap:
        assert found.permutation.tolist() == [3, 1, 7]
    else:
        assert found.permutation.tolist() == [-1, 1, -1, 0, -1, -1, -1, 2, -1, -1, -1, -1]


def test_semi_matched_averages_both_ways():
    r = np.array([[0.5, 0.2], [0.9, -0.1]])
    assert semi_matched(r) == pytest.approx(((0.5 + 0.9) / 2 + (0.9 + 0.2) / 2) / 2)


def test_one_half_alone_has_no_held_out_score():
    a = relu_features(0)
    found = compare(split(a, a)[:1])
    assert found.matched == pytest.approx(1, abs=1e-6)
    assert found.matched_held_out is None


def test_correlations_stay_within_one():
    a = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32)
    assert np.abs(correlation(split(a, a)[0])).max() <= 1
