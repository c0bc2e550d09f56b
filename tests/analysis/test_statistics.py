"""The bootstrap over networks: exact on constants, as wide as the truth on planted effects of networks."""

from itertools import combinations

import numpy as np
import pytest

from basiscli.analysis.statistics import over_networks, over_runs, rise


def pairs_of(effects: np.ndarray, noise: float = 0, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {(i, j): effects[i] + effects[j] + noise * rng.normal() for i, j in combinations(range(len(effects)), 2)}


def test_the_same_value_everywhere():
    assert over_networks({(i, j): 0.25 for i, j in combinations(range(5), 2)}, 0) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("networks", [4, 5, 10])
def test_the_interval_covers_the_truth(networks):
    """Effects of networks that all their pairs share: a bootstrap over pairs would cover half, not 95 %."""
    covered = 0
    for seed in range(300):
        effects = np.random.default_rng(seed).standard_normal(networks)
        _, low, high = over_networks(pairs_of(effects, 0.5, seed), seed)
        covered += low <= 0 <= high
    assert 0.91 <= covered / 300 <= 0.99


def test_too_few_networks_have_no_interval():
    assert over_networks({(0, 1): 0.5}, 0) == (0.5, None, None)
    assert over_networks({}, 0) == (None, None, None)
    assert over_networks({(0, 1): None}, 0) == (None, None, None)


def test_missing_pairs_are_left_out():
    values = pairs_of(np.array([0.1, 0.2, 0.3, 0.4]))
    values[0, 1] = None
    mean, low, high = over_networks(values, 0)
    assert mean == pytest.approx(np.mean([v for v in values.values() if v is not None]))
    assert low < mean < high


def test_an_interval_ends_where_its_values_do():
    values = {(0, 1): -0.9, (0, 2): 0.9, (1, 2): 0.3}
    _, low, high = over_networks(values, 0)
    assert low < -1 and high > 1
    assert over_networks(values, 0, bound=1.0)[1:] == (-1, 1)
    over = values | {(0, 1): 0.9}
    assert rise(values, over, 0)[1] < -2 and rise(values, over, 0)[2] > 2
    assert rise(values, over, 0, bound=1.0)[1:] == (-2, 2)


def test_the_seed_draws_the_resamples():
    values = pairs_of(np.random.default_rng(0).standard_normal(6))
    assert over_networks(values, 0) == over_networks(values, 0) != over_networks(values, 1)


@pytest.mark.parametrize("alike", [0.0, 0.8])
def test_the_interval_of_a_rise_covers_the_truth(alike):
    """Networks of one seed in two conditions, whether they have nothing or most of their effects in common."""
    covered = 0
    for seed in range(300):
        common, free, frozen = np.random.default_rng(seed).standard_normal((3, 6))
        free, frozen = (alike * common + np.sqrt(1 - alike**2) * own for own in (free, frozen))
        frozen = {pair: 0.3 + value for pair, value in pairs_of(frozen, 0.5, seed).items()}
        mean, low, high = rise(frozen, pairs_of(free, 0.5, seed + 1000), seed)
        assert low <= mean <= high
        covered += low <= 0.3 <= high
    assert 0.91 <= covered / 300 <= 0.99


def test_a_rise_is_over_pairs_that_both_have():
    values, over = pairs_of(np.arange(5.0)), pairs_of(np.arange(5.0) - 0.5)
    del over[0, 1]
    values[2, 3] = None
    assert rise(values, over, 0) == pytest.approx((1.0, 1.0, 1.0))
    assert rise(values, {}, 0) == (None, None, None)


def test_an_interval_over_runs_of_known_values():
    assert over_runs({(n, r): 0.5 for n in range(3) for r in range(2)}, 0) == (0.5, 0.5, 0.5)
    assert over_runs({(0, 0): 1.0, (0, 1): 3.0}, 0) == (2.0, None, None)
    assert over_runs({}, 0) == (None, None, None)
    mean, low, high = over_runs({(0, r): value for r, value in enumerate((1.0, 2.0, 3.0))}, 0)
    assert low < mean == 2 < high
    unequal = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 2.0, (2, 0): 3.0}
    assert over_runs(unequal, 0)[0] == pytest.approx((0.5 + 2 + 3) / 3)


@pytest.mark.parametrize("networks, between", [(3, 1.0), (5, 1.0), (10, 0.2), (1, 0.0)])
def test_an_interval_over_runs_covers_the_truth(networks, between):
    """Networks that differ and repeats that differ: resampling runs would miss the former."""
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        effects = between * rng.standard_normal(networks)
        values = {(n, r): effects[n] + 0.5 * rng.standard_normal() for n in range(networks) for r in range(4)}
        _, low, high = over_runs(values, seed)
        covered += low <= 0 <= high
    assert 0.91 <= covered / 400 <= 0.99
