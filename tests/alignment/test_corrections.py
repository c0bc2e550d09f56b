"""Corrections: exact over their images, the identity at the ends, folded without changing what they say."""

import numpy as np
import pytest

from basiscli import data
from basiscli.alignment import corrections
from basiscli.errors import BadInput
from basiscli.nn import models, weights
from basiscli.nn.graph import Network, forward
from basiscli.nn.ops import batchnorm
from basiscli.training.images import Standardisation

IMAGE = {"input_shape": [8, 8, 3], "classes": 10}
MODELS = {
    "mlp": {"model": "mlp", "hidden": [12, 7]},
    "mlp-layer": {"model": "mlp", "hidden": [12, 7], "norm": "layer"},
    "convnet": {"model": "convnet", "layout": [5, "pool", 9]},
    "vgg": {"model": "vgg", "layout": [5, "pool", 9]},
    "resnet-none": {"model": "resnet", "depth": 8, "width": 0.25, "norm": "none", "shortcut": "B"},
    "resnet-layer": {"model": "resnet", "depth": 8, "width": 0.25, "norm": "layer"},
    "resnet-batch": {"model": "resnet", "depth": 8, "width": 0.25},
    "wideresnet": {"model": "wideresnet", "depth": 10, "width": 0.5, "dropout": 0.3},
}
WITH_BATCHNORM = ("vgg", "resnet-batch", "wideresnet")
IMAGES = np.random.default_rng(0).standard_normal((1, 40, 8, 8, 3))
THIRDS = np.array([[1, 0], [2 / 3, 1 / 3], [0, 1]])


def ends_of(network: Network) -> list[dict[str, np.ndarray]]:
    """Return the arrays (1, ...) of two networks, in float64, with shifts and statistics of their own."""
    ends = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        ends.append({
            path: (values + (rng.uniform(0.1, 1, values.shape) if values.ndim == 1 else 0))[None].astype(np.float64)
            for path, values in weights.initial(network, seed).items()
        })  # fmt: skip
    return ends


def batchnorms(network: Network) -> list:
    return [node for node in network.nodes if node.op is batchnorm]


@pytest.mark.parametrize("name", WITH_BATCHNORM)
def test_after_a_reset_use_and_training_agree_over_the_images(name):
    network = models.build(IMAGE | MODELS[name] | ({"dropout": 0.0} if name == "wideresnet" else {}))
    mixed = weights.mix(ends_of(network), THIRDS)
    corrections.reset_batchnorm(network, mixed, IMAGES)
    statistics = {path: values.copy() for path, values in mixed.items()}
    used = forward(network, mixed, IMAGES)[0]
    trained = forward(network, statistics, IMAGES, train=True)[0]
    np.testing.assert_allclose(used, trained, rtol=1e-9, atol=1e-9)


def test_a_reset_finds_the_statistics_that_are_planted():
    network = models.build(IMAGE | MODELS["vgg"])
    (arrays, _) = ends_of(network)
    corrections.reset_batchnorm(network, arrays, IMAGES)
    node = batchnorms(network)[-1]
    _, kept, _ = forward(network, arrays, IMAGES, keep=node.inputs)
    x = kept[node.inputs[0]]
    np.testing.assert_allclose(arrays[f"{node.name}/mean"], x.mean(axis=(1, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(arrays[f"{node.name}/variance"], x.var(axis=(1, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_repair_gives_every_unit_the_interpolated_statistics(name):
    network = models.build(IMAGE | MODELS[name])
    ends = ends_of(network)
    mixed = weights.mix(ends, THIRDS)
    before = forward(network, mixed, IMAGES)[0]
    corrections.correct("repair", network, mixed, ends, THIRDS, IMAGES)
    found = corrections.statistics(network, mixed, IMAGES)
    a, b = (corrections.statistics(network, end, IMAGES) for end in ends)
    for place in corrections.places(network):
        for field in ("mean", "deviation"):
            wanted = THIRDS @ np.concatenate([getattr(end[place], field) for end in (a, b)])
            # √(variance + ε) before and after a gain differ by about ε.
            np.testing.assert_allclose(getattr(found[place], field), wanted, rtol=1e-3, atol=1e-4)
    after = forward(network, mixed, IMAGES)[0]
    np.testing.assert_allclose(after[[0, 2]], before[[0, 2]], rtol=1e-7, atol=1e-7)
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_repair_at_an_end_keeps_its_arrays():
    network = models.build(IMAGE | MODELS["mlp-layer"])
    ends = ends_of(network)
    mixed = weights.mix(ends, THIRDS)
    corrections.correct("repair", network, mixed, ends, THIRDS, IMAGES)
    for path, values in mixed.items():
        np.testing.assert_allclose(values[0], ends[0][path][0], rtol=1e-9, atol=1e-9, err_msg=path)
        np.testing.assert_allclose(values[2], ends[1][path][0], rtol=1e-9, atol=1e-9, err_msg=path)


@pytest.mark.parametrize("name", ["mlp", "resnet-layer", "vgg"])
def test_float32_agrees_with_the_reference(name):
    network = models.build(IMAGE | MODELS[name])
    ends = ends_of(network)
    fast = [{path: values.astype(np.float32) for path, values in end.items()} for end in ends]
    mixed, quick = weights.mix(ends, THIRDS), weights.mix(fast, THIRDS)
    corrections.correct("repair", network, mixed, ends, THIRDS, IMAGES)
    corrections.correct("repair", network, quick, fast, THIRDS, IMAGES.astype(np.float32))
    logits, approximate = forward(network, mixed, IMAGES)[0], forward(network, quick, IMAGES.astype(np.float32))[0]
    np.testing.assert_allclose(approximate, logits, atol=2e-4 * np.abs(logits).max())


def test_a_unit_that_never_varies_stays_finite():
    network = models.build(IMAGE | MODELS["mlp"])
    ends = ends_of(network)
    for end in ends:
        end["hidden1/w"][..., 3] = 0
    mixed = weights.mix(ends, THIRDS)
    corrections.correct("repair", network, mixed, ends, THIRDS, IMAGES)
    assert all(np.isfinite(values).all() for values in mixed.values())


def test_what_is_rescaled():
    def places(name):
        return corrections.places(models.build(IMAGE | MODELS[name]))

    assert places("mlp") == ["hidden1", "hidden2"]
    assert places("mlp-layer") == ["hidden1/norm", "hidden2/norm"]
    assert places("resnet-none")[:4] == ["stem", "block1/conv1", "block1/conv2", "block2/conv1"]
    assert "block2/shortcut" in places("resnet-none") and "output" not in places("resnet-none")


def test_what_a_network_needs():
    needs = {name: corrections.default(models.build(IMAGE | one)) for name, one in MODELS.items()}
    assert [name for name, need in needs.items() if need == "reset-bn"] == list(WITH_BATCHNORM)
    with pytest.raises(BadInput, match="no BatchNorm to reset"):
        corrections.require_possible(models.build(IMAGE | MODELS["mlp"]), ["none", "reset-bn"])


def test_the_sample_is_of_training_images_and_no_larger_than_they_are():
    digits = data.load("digits")
    standard = Standardisation.of(digits.train.images)
    few = corrections.sample(digits.train, standard, 7, 0)
    assert few.shape == (1, 7, 8, 8, 1) and few.dtype == np.float32
    assert corrections.sample(digits.train, standard, 10**6, 0).shape[1] == len(digits.train.labels)
