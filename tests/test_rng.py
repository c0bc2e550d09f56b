"""Streams are reproducible, and independent of one another."""

import numpy as np
import pytest

from basiscli.rng import generator


def draw(*stream):
    return generator(*stream).standard_normal(2000)


def test_a_stream_is_always_the_same():
    np.testing.assert_array_equal(draw(3, "order", 1), draw(3, "order", 1))


def test_the_draws_of_a_version_stay():
    # Files say which seed they came from; a change here would make every stored seed a lie.
    np.testing.assert_array_equal(generator(0, "order", 0).permutation(6), [3, 4, 1, 0, 2, 5])


@pytest.mark.parametrize("other", [(4, "order", 1), (3, "order", 2), (3, "augment", 1), (3, "order"), (3, "init", "w")])
def test_streams_are_independent(other):
    assert abs(np.corrcoef(draw(3, "order", 1), draw(*other))[0, 1]) < 4 / np.sqrt(2000)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="from 0"):
        generator(-1, "order")
