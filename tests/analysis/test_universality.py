"""Universal units and cycles of partners: planted answers."""

from functools import cache

import numpy as np
import pytest

from basiscli.analysis.passes import Reading, layer_moments
from basiscli.analysis.universality import cycles, discoveries, universality
from basiscli.rng import generator
from tests.helpers.memory import MemorySource


def moments_of(arrays):
    (layer,) = layer_moments([MemorySource(f"{k}.h5", {"h": x}) for k, x in enumerate(arrays)], Reading(0, full=True))
    return layer


@cache
def shared(seed: int, networks: int = 4, rows: int = 600, units: int = 24, common: int = 8) -> tuple[np.ndarray, ...]:
    """Networks whose first `common` units are the same signals in another order, with noise; the others are private."""
    rng = generator(seed, "shared")
    signals = rng.laplace(size=(rows, common))
    arrays = []
    for _ in range(networks):
        seen = signals[:, rng.permutation(common)] + 0.3 * rng.standard_normal((rows, common))
        arrays.append(np.hstack([seen, rng.standard_normal((rows, units - common))]))
    return tuple(arrays)


def test_permuted_copies_are_universal_and_their_cycles_close():
    rng = generator(1, "copies")
    x = np.maximum(rng.standard_normal((400, 8)) @ rng.standard_normal((8, 12)), 0)
    orders = [np.arange(12), rng.permutation(12), rng.permutation(12)]
    layer = moments_of([x[:, order] for order in orders])
    for k, scores in enumerate(universality(layer, 10, 0)):
        np.testing.assert_allclose(scores.universality, 1, atol=1e-5)
        assert scores.universal().all() and scores.stable.all() and (scores.beaten == 1).all()
        other = scores.others[0]
        np.testing.assert_array_equal(orders[other][scores.partners[0]], orders[k])
    closed = cycles(layer, 5, 0)
    assert closed.estimate.value == 1 and closed.triples == 1
    assert closed.draws.max() < 0.6


def test_the_shared_units_are_found_at_the_stated_false_discovery_rate():
    """In 4 experiments of 4 networks every shared unit is found, and about 5 % others or fewer (8 % are allowed)."""
    found = false = 0
    for experiment in range(4):
        for scores in universality(moments_of(shared(experiment)), 25, experiment):
            universal = scores.universal()
            assert universal[:8].all()
            found, false = found + universal.sum(), false + universal[8:].sum()
    assert false / found < 0.08


def test_cycles_close_at_the_shared_units_only():
    closed = cycles(moments_of(shared(0)), 10, 0)
    assert 8 / 24 <= closed.estimate.value < 0.6
    low, high = closed.estimate.interval()
    assert low <= closed.estimate.value <= high
    assert closed.draws.mean() < 0.25


def test_constant_units_are_never_universal():
    arrays = [x.copy() for x in shared(2)]
    arrays[1][:, 3] = 7
    scores = universality(moments_of(arrays), 5, 0)[1]
    assert scores.dead[3] and scores.dead.sum() == 1
    assert scores.universality[3] == 0 and scores.q[3] == 1 and not scores.universal()[3]


def test_the_null_is_that_of_rotated_arrays():
    """The moments of rotated arrays give what the draw computes from the moments."""
    from basiscli.analysis.powers import rotation

    first, second = shared(3, networks=2, rows=200)
    layer = moments_of([first, second])
    by_draw = universality(layer, 2, 0)[0].null
    means = []
    for draw in range(2):
        turned = (second - second.mean(axis=0)) / second.std(axis=0) @ rotation(24, 0, 2 * draw + 1)
        means.append(universality(moments_of([first, turned]), 2, 0)[0].universality)
    np.testing.assert_allclose(by_draw, np.mean(means, axis=0), atol=1e-4)


def test_false_discovery_rates():
    np.testing.assert_allclose(discoveries(np.array([0.01, 0.9, 0.02, 0.04])), [0.04, 0.9, 0.04, 0.04 * 4 / 3])


@pytest.mark.parametrize("units", [(6, 9, 9), (9, 6, 6)])
def test_networks_of_unequal_widths(units):
    rng = generator(4, "widths")
    inputs = rng.standard_normal((300, 5))
    layer = moments_of([np.tanh(inputs @ rng.standard_normal((5, u))) for u in units])
    assert [len(scores.universality) for scores in universality(layer, 3, 0)] == list(units)
    assert 0 <= cycles(layer, 3, 0).estimate.value <= 1
