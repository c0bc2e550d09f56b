"""A frozen bottom: in use while the rest is trained, shared by all seeds, bit for bit the same out of a cache."""

from dataclasses import replace

import numpy as np
import pytest

from basiscli import data
from basiscli.data import Dataset, Split
from basiscli.nn import models, weights
from basiscli.nn.frozen_split import FrozenSplit
from basiscli.nn.graph import Network, forward
from basiscli.training import run as run_module
from basiscli.training.images import probe_batch
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run
from tests.helpers.networks import finish

SMALL = {
    "mlp": {"hidden": [20, 12, 8], "norm": "batch"},
    "convnet": {"layout": [4, "pool", 6, 8], "activation": "gelu"},
    "resnet": {"depth": 8, "width": 0.25},
    "wideresnet": {"depth": 10, "width": 0.25, "dropout": 0.2},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The first digits only, so that an epoch is a few steps."""
    digits = data.load("digits")
    return replace(
        digits,
        train=Split(digits.train.images[:70], digits.train.labels[:70]),
        test=Split(digits.test.images[:30], digits.test.labels[:30]),
    )


def network_of(model: str) -> Network:
    return models.build({"model": model, "input_shape": [8, 8, 1], "classes": 10, **SMALL[model]})


def donor_of(network: Network, layers: int) -> dict[str, np.ndarray]:
    """Arrays of a prefix that no seed below starts with; running statistics away from 0 and 1."""
    drawn = weights.initial(network, 99)
    return {path: drawn[path] + np.float32(0.1) for path in weights.prefix(network, layers)}


def started(network: Network, layers: int, dataset: Dataset, **recipe) -> Run:
    def adjust(arrays):
        for path, values in donor_of(network, layers).items():
            arrays[path][...] = values

    recipe = Recipe(**{"epochs": 2, "batch_size": 32, "prefix": layers, "lr": 0.01, **recipe})
    return Run.start(network, recipe, dataset, [0, 1], adjust)


def test_the_prefix_of_a_residual_network():
    network = network_of("resnet")
    stem = ["stem/w", "stem/norm/scale", "stem/norm/shift", "stem/norm/mean", "stem/norm/variance"]
    assert weights.prefix(network, 1) == stem
    assert "block1/conv1/w" in weights.prefix(network, 2) and "block1/conv2/w" not in weights.prefix(network, 2)
    assert "block1/conv2/norm/mean" in weights.prefix(network, 3)
    everything = set(weights.prefix(network, len(network.layers)))
    assert set(network.weights) - everything == {"output/w", "output/b"}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("model", SMALL)
def test_the_two_parts_are_the_network(model, layers, dataset):
    network = network_of(model)
    run = started(network, layers, dataset)
    assert run.frozen_split.shared and set(run.frozen_split.arrays) == set(weights.prefix(network, layers))
    images, _ = probe_batch(dataset.test, run.standard, range(7))
    parts = forward(run.frozen_split.above, run.arrays, run.frozen_split.features(images))[0]
    np.testing.assert_allclose(parts, forward(network, run.arrays, images)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("augment", ["all-shifts", "shift", "none"])
@pytest.mark.parametrize("model", SMALL)
def test_the_cache_changes_no_bit(model, augment, dataset, monkeypatch):
    network = network_of(model)
    recipe = {"augment": augment, "epochs": 5 if augment == "shift" else 2}
    kept = started(network, 2, dataset, **recipe)
    assert kept.cache
    finish(kept)
    monkeypatch.setattr(run_module, "CACHE_PART", 0)
    worked_out = started(network, 2, dataset, **recipe)
    assert not worked_out.cache
    finish(worked_out)
    for path, values in kept.arrays.items():
        np.testing.assert_array_equal(values, worked_out.arrays[path], err_msg=path)
    np.testing.assert_array_equal(kept.history["train_loss"], worked_out.history["train_loss"])
    np.testing.assert_array_equal(kept.history["test_loss"], worked_out.history["test_loss"])


@pytest.mark.parametrize("model", SMALL)
def test_the_prefix_stays_and_the_rest_is_trained(model, dataset):
    network = network_of(model)
    run = started(network, 2, dataset, weight_decay=0.1)
    before = {path: values.copy() for path, values in run.arrays.items()}
    finish(run)
    donor = donor_of(network, 2)
    for path, values in run.arrays.items():
        if path in donor:
            assert (values == donor[path]).all(), path
        elif network.weights[path].trained:
            assert (values != before[path]).any(axis=tuple(range(1, values.ndim))).all(), path


def test_start_only_copies_and_trains(dataset):
    network = network_of("mlp")
    run = started(network, 2, dataset, start_only=True)
    donor = donor_of(network, 2)
    assert all((run.arrays[path] == values).all() for path, values in donor.items())
    assert not run.frozen_split.shared and not run.cache
    finish(run)
    assert all((run.arrays[path] != values).any() for path, values in donor.items() if path.endswith("/w"))


def test_a_seed_with_a_prefix_is_the_same_in_any_company(dataset):
    network = network_of("convnet")
    together = finish(started(network, 1, dataset, augment="crop,flip"))
    drawn = donor_of(network, 1)
    alone = Run.start(network, together.recipe, dataset, [1], lambda arrays: arrays.update(drawn))
    finish(alone)
    np.testing.assert_array_equal(together.theta[1], alone.theta[0])


def test_bottoms_that_differ_are_not_shared(dataset):
    network = network_of("mlp")
    run = Run.start(network, Recipe(epochs=1, frozen=("hidden1/*",), batch_size=32), dataset, [0, 1])
    assert not run.frozen_split.shared and not run.cache
    images, _ = probe_batch(dataset.test, run.standard, range(5))
    expected = forward(network, run.arrays, images, keep=["hidden1/relu"])[1]["hidden1/relu"]
    np.testing.assert_array_equal(run.frozen_split.features(images)["hidden1/relu"], expected)


@pytest.mark.parametrize("augment, epochs", [("crop,flip", 20), ("cutout", 20), ("shift", 2)])
def test_features_are_cached_only_where_it_serves(dataset, augment, epochs):
    """Two seeds see 2 epochs of images: fewer than the nine shifts of each."""
    assert not started(network_of("mlp"), 1, dataset, augment=augment, epochs=epochs).cache


def test_nothing_trained_but_the_last_map(dataset):
    network = network_of("mlp")
    cut = FrozenSplit.of(network, started(network, 3, dataset).arrays, ["output/w", "output/b"])
    assert [node.name for node in cut.above.nodes] == ["output"] and cut.floats() == 8
