"""Selecting, initialising, laying out and transplanting weights."""

import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.nn import models, weights

NETWORK = models.mlp((8, 8, 1), 10, [64, 48], "relu", "batch")


def test_a_glob_selects_in_order_and_across_slashes():
    assert weights.select(NETWORK.trained, ["*/b", "hidden1/*"]) == [
        "hidden1/w", "hidden1/b", "hidden1/norm/scale", "hidden1/norm/shift", "hidden2/b", "output/b",
    ]  # fmt: skip
    assert weights.select(NETWORK.trained, []) == []


def test_a_glob_that_matches_nothing_is_refused():
    with pytest.raises(BadInput, match=r"no weight matches 'block\*'; there are hidden1/w"):
        weights.select(NETWORK.trained, ["hidden1/*", "block*"])


def test_initial_weights_have_the_variance_of_he():
    drawn = weights.initial(NETWORK, 0)
    assert drawn["hidden1/w"].dtype == np.float32
    np.testing.assert_allclose(drawn["hidden1/w"].std(), np.sqrt(2 / 64), rtol=0.05)
    np.testing.assert_allclose(drawn["output/w"].std(), np.sqrt(1 / 48), rtol=0.15)
    assert not drawn["hidden1/b"].any() and (drawn["hidden1/norm/scale"] == 1).all()


def test_initial_weights_do_not_depend_on_the_rest_of_the_network():
    deeper = models.mlp((8, 8, 1), 10, [64, 48, 32])
    np.testing.assert_array_equal(weights.initial(NETWORK, 5)["hidden2/w"], weights.initial(deeper, 5)["hidden2/w"])
    assert (weights.initial(NETWORK, 5)["hidden2/w"] != weights.initial(NETWORK, 6)["hidden2/w"]).any()


def test_a_layout_orders_decayed_undecayed_frozen_without_overlap():
    frozen = weights.select(NETWORK.trained, ["hidden1/*"])
    layout = weights.layout(NETWORK, frozen)
    flat = np.arange(2 * layout.size, dtype=np.float64).reshape(2, -1)
    views = layout.views(flat)
    assert set(views) == set(NETWORK.trained)
    assert all(np.shares_memory(view, flat) for view in views.values())
    entries = np.concatenate([view[0].ravel() for view in views.values()])
    assert len(set(entries)) == len(entries) <= layout.size
    assert all(views[path].min() >= layout.trained for path in frozen)
    assert layout.trained_paths() == [
        "hidden2/w",
        "output/w",
        "hidden2/b",
        "hidden2/norm/scale",
        "hidden2/norm/shift",
        "output/b",
    ]
    assert {path for path in NETWORK.trained if views[path][0].max() < layout.decayed} == {"hidden2/w", "output/w"}


def test_a_transplant_copies_what_matches():
    mine, donor = weights.initial(NETWORK, 0), weights.initial(NETWORK, 1)
    weights.transplant(mine, donor, ["hidden1/*"], "donor.h5")
    np.testing.assert_array_equal(mine["hidden1/w"], donor["hidden1/w"])
    assert (mine["hidden2/w"] != donor["hidden2/w"]).any()


def test_a_transplant_that_does_not_fit_is_refused():
    donor = weights.initial(models.mlp((8, 8, 1), 10, [64, 40]), 1)
    with pytest.raises(BadInput, match=r"donor.h5: hidden2/w \(64, 40\) does not fit"):
        weights.transplant(weights.initial(NETWORK, 0), donor, ["hidden?/w"], "donor.h5")


def test_mixing_gives_the_ends_exactly_and_what_lies_between():
    a, b = ({path: values[None] for path, values in weights.initial(NETWORK, seed).items()} for seed in (0, 1))
    lambdas = np.arange(25) / 24
    mixed = weights.interpolate(a, b, lambdas)
    for path in NETWORK.weights:
        assert mixed[path].shape == (25, *NETWORK.weights[path].shape) and mixed[path].dtype == np.float32
        np.testing.assert_array_equal(mixed[path][0], a[path][0])
        np.testing.assert_array_equal(mixed[path][24], b[path][0])
        np.testing.assert_allclose(mixed[path][12], (a[path][0] + b[path][0]) / 2, rtol=1e-6, atol=1e-7)
    alone = weights.interpolate(a, b, lambdas[6:7])
    np.testing.assert_array_equal(alone["hidden1/w"][0], mixed["hidden1/w"][6])


def test_the_mean_of_many():
    three = [{path: values[None] for path, values in weights.initial(NETWORK, seed).items()} for seed in range(3)]
    mean = weights.mix(three, np.full((1, 3), 1 / 3))
    wanted = np.mean([one["output/w"][0] for one in three], axis=0)
    np.testing.assert_allclose(mean["output/w"][0], wanted, rtol=1e-5, atol=1e-7)
