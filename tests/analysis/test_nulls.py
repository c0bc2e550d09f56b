"""Nulls with planted answers: rotations, permutations with noise, independent units; and the draws' own laws."""

import os

import numpy as np
import pytest

from basiscli.analysis import nulls
from basiscli.analysis.correlate import compare
from basiscli.analysis.moments import merge
from basiscli.analysis.nulls import calibrate, privileges, rotated, shuffled
from basiscli.rng import generator
from tests.helpers.features import haar, moments_of, relu_features, split


def test_a_rotated_copy_scores_as_the_rotated_null():
    """A and A Q share a space and no axes: |z| < 3 in 95 of 100 tries, in sample and held out."""
    within = 0
    for seed in range(100):
        a = relu_features(seed, rows=200, units=10)
        halves = split(a, a @ haar(10, seed), seed=seed)
        scores, null = compare(halves), rotated(halves, 40, seed)
        in_sample = calibrate(scores.matched, null.in_sample)
        held_out = calibrate(scores.matched_held_out, null.held_out)
        within += abs(in_sample.z) < 3 and abs(held_out.z) < 3
    assert within >= 95


def test_the_rotated_null_equals_rotating_the_data():
    """A draw from the moments is the score of B's activations times the same rotation."""
    a, b = relu_features(0), relu_features(1)
    b[:, 4] = 2  # dead: stays as it is
    null = rotated(split(a, b), 3, seed=5)
    live = np.delete(np.arange(12), 4)
    for draw in range(3):
        q = np.eye(12)
        q[np.ix_(live, live)] = nulls.haar(generator(5, "rotated", draw), 11)
        scores = compare(split(a, b @ q))
        assert null.in_sample[draw] == pytest.approx(scores.matched, abs=1e-4)
        assert null.held_out[draw] == pytest.approx(scores.matched_held_out, abs=1e-4)
        deviations = np.where(b.std(axis=0) > 0, b.std(axis=0), 1)
        scores = compare(split(a, b / deviations @ q))
        assert null.standardised_held_out[draw] == pytest.approx(scores.matched_held_out, abs=1e-4)


def test_a_permuted_copy_with_noise_has_the_expected_correlation_and_z():
    """b = a_π + σ e has r = 1/√(1 + σ²) for units of variance 1; any axes of the same space score far less."""
    rng = np.random.default_rng(0)
    rows, units, sigma = 4000, 24, 0.75
    a = rng.standard_normal((rows, units))
    b = a[:, rng.permutation(units)] + sigma * rng.standard_normal((rows, units))
    halves = split(a, b)
    scores, null = compare(halves), rotated(halves, 50, seed=0)
    expected = 1 / np.sqrt(1 + sigma**2)
    assert scores.matched == pytest.approx(expected, abs=4 * 0.36 / np.sqrt(rows * units))
    found = calibrate(scores.matched_held_out, null.held_out)
    # The best of Q's entries, as one rotation of the planted correlation scores.
    axes = expected * np.mean([compare([moments_of(a, a @ haar(units, k))]).matched for k in range(10)])
    assert found.mean == pytest.approx(axes, abs=0.02)
    assert found.excess == pytest.approx(expected - axes, abs=0.02)
    assert found.z == pytest.approx(found.excess / null.held_out.std(ddof=1))
    assert found.z > 20
    assert found.beaten == 1


@pytest.mark.parametrize(("units", "tries"), [(64, 12), (512, 2), pytest.param(2048, 1, marks=pytest.mark.slow)])
def test_independent_units(units, tries):
    """Held out 0 within its error, in sample what the shuffled null says; fewer samples than units change nothing."""
    rows, draws = 400, 8 if units < 1000 else 3
    held_out, differences, spread = [], [], []
    for seed in range(tries):
        halves = split(*np.random.default_rng(seed).standard_normal((2, rows, units)))
        scores, null = compare(halves), shuffled(halves, 1, draws, seed)
        held_out.append(scores.matched_held_out)
        differences.append(scores.matched - null.in_sample.mean())
        spread.append(null.in_sample.std(ddof=1))
    error = np.mean(spread) * np.sqrt(1 / tries + 1 / (tries * draws))
    assert abs(np.mean(differences)) < 4 * error + 1e-3
    assert abs(np.mean(held_out)) < 4 / np.sqrt(rows / 2 * 2 * units * tries)


def test_the_shuffled_null_equals_shuffling_the_data():
    a, b = relu_features(0, rows=1500, units=20), relu_features(1, rows=1500, units=16)
    a[:, 3] = 0
    rng = np.random.default_rng(0)
    null = shuffled(split(a, b), 1, 60, seed=0)
    found = [compare(split(a, b[rng.permutation(len(b))])) for _ in range(60)]
    in_sample, held_out = zip(*((one.matched, one.matched_held_out) for one in found), strict=True)
    for drawn, truly in ((null.in_sample, in_sample), (null.held_out, held_out)):
        error = np.sqrt((np.var(drawn) + np.var(truly)) / 60)
        assert abs(drawn.mean() - np.mean(truly)) < 4 * error
        assert drawn.std() == pytest.approx(np.std(truly), rel=0.4)


def test_rows_of_one_image_are_no_independent_evidence():
    rng = np.random.default_rng(0)
    images, copies = 60, 5
    a, b = (np.repeat(rng.standard_normal((images, 10)), copies, axis=0) for _ in range(2))
    halves = [moments_of(a[:150], b[:150]), moments_of(a[150:], b[150:])]
    observed = compare(halves).matched
    assert calibrate(observed, shuffled(halves, copies, 40, 0).in_sample).z < 4
    assert calibrate(observed, shuffled(halves, 1, 40, 0).in_sample).z > 4


def test_shuffling_two_images_is_undefined():
    a = relu_features(0, rows=2)
    assert shuffled(split(a, a), 1, 5, 0).in_sample.size == 0


def test_dead_and_duplicate_units():
    a = relu_features(0)
    a[:, 2] = 0
    a[:, 7] = a[:, 6]
    halves = split(a, a)
    for drop_dead in (False, True):
        null = rotated(halves, 20, 0, drop_dead)
        found = calibrate(compare(halves, drop_dead).matched, null.in_sample)
        assert 0 < found.mean < 0.9
        assert found.beaten == 1
    assert rotated(halves, 20, 0).in_sample.mean() < rotated(halves, 20, 0, drop_dead=True).in_sample.mean()


def test_fewer_samples_than_units():
    a = relu_features(0, rows=20, units=50)
    halves = split(a, a[:, ::-1])
    found = calibrate(compare(halves).matched, rotated(halves, 10, 0).in_sample)
    assert found.beaten == 1


@pytest.mark.parametrize("units", [(12, 5), (5, 12)], ids=str)
def test_unequal_widths(units):
    a, b = (relu_features(0)[:, :u] for u in units)
    halves = split(a, b)
    for null in (rotated(halves, 10, 0), shuffled(halves, 1, 10, 0)):
        assert calibrate(compare(halves).matched, null.in_sample).beaten == 1


def test_draws_do_not_depend_on_how_they_are_spread():
    """One process a core gives the draws of one process."""
    a, b = relu_features(0, units=nulls.POOL_UNITS), relu_features(1, units=nulls.POOL_UNITS)
    halves = split(a, b)
    before = dict(os.environ)
    alone = rotated(halves, nulls.PART_DRAWS + 2, 0)
    with nulls.workers(nulls.POOL_UNITS) as spread:
        together = rotated(halves, nulls.PART_DRAWS + 2, 0, spread=spread)
    np.testing.assert_allclose(together.in_sample, alone.in_sample, atol=1e-6)
    np.testing.assert_allclose(together.held_out, alone.held_out, atol=1e-6)
    assert dict(os.environ) == before
    assert not np.allclose(rotated(halves, 2, 1).in_sample, alone.in_sample[:2], atol=1e-6)


def test_draws_do_not_depend_on_rotations_that_are_kept(monkeypatch):
    halves = split(relu_features(3), relu_features(4))
    nulls._rotations.cache_clear()
    first, again = (rotated(halves, 4, seed=6).held_out for _ in range(2))
    monkeypatch.setattr(nulls, "KEPT_BYTES", 0)
    nulls._rotations.cache_clear()
    for draws in (again, rotated(halves, 4, seed=6).held_out):
        np.testing.assert_array_equal(draws, first)
    assert not nulls._rotations(6, 12)


def test_one_half_alone():
    a = relu_features(0)
    null = rotated([moments_of(a, a)], 5, 0)
    assert null.in_sample.shape == (5,)
    assert null.held_out.size == 0


def test_rotations_are_uniform():
    """Entries have mean 0 and variance 1/n; QᵀQ = 1; both determinants come up."""
    drawn = [nulls.haar(np.random.default_rng(k), 4) for k in range(400)]
    np.testing.assert_allclose(drawn[0].T @ drawn[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.mean(drawn, axis=0), 0, atol=5 * 0.5 / 20)
    np.testing.assert_allclose(np.var(drawn, axis=0), 0.25, atol=0.1)
    assert 0.4 < np.mean([np.linalg.det(q) > 0 for q in drawn]) < 0.6


def test_calibration_without_spread_or_score():
    assert calibrate(None, np.array([0.1, 0.2])).mean is None
    assert calibrate(0.5, np.array([0.1])).mean is None
    same = calibrate(0.5, np.array([0.25, 0.25]))
    assert (same.excess, same.z, same.beaten) == (0.25, None, 1.0)


def test_privilege():
    """Independent units of different widths are privileged; a rotated copy and a round Gaussian are not."""
    rng = np.random.default_rng(0)
    units = rng.standard_normal((3000, 20)) * rng.uniform(0.2, 3, 20)
    (own,) = privileges([merge(split(units)).own[0]], 60, 0)
    assert own.mean == pytest.approx(0, abs=1e-6)
    assert own.excess > 0.7
    assert own.z > 5
    zs = [privileges([moments_of(units @ haar(20, k)).own[0]], 60, k)[0].z for k in range(20)]
    assert np.mean(np.abs(zs) < 3) >= 0.9
    round_gaussian = rng.standard_normal((3000, 20))
    (plain,) = privileges([moments_of(round_gaussian).own[0]], 60, 0)
    assert abs(plain.excess) < 0.2
    both = privileges([moments_of(round_gaussian).own[0], moments_of(units[:, :7]).own[0]] * 2, 60, 0)
    assert both == [plain, both[1], plain, both[1]] and both[1].excess > 0.5


def test_privilege_of_a_single_unit_is_undefined():
    assert privileges([np.array([[1.0, 0], [0, 0]])], 5, 0)[0].z is None


def test_single_units_are_those_of_the_standardised_null():
    """What a figure draws of a null has the mean that a table shows."""
    a, b = relu_features(0), relu_features(0) * np.geomspace(1, 50, 12)
    null = rotated(split(a, b), 10, 0)
    assert null.correlations.mean() == pytest.approx(null.standardised_held_out.mean())
    assert abs(null.correlations.mean() - null.held_out.mean()) > 0.01
