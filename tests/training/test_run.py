"""Training: grouping of seeds, streams, freezing, divergence, agreement with PyTorch."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from basiscli import data
from basiscli.data import Dataset, Split
from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.nn.graph import backward, forward
from basiscli.nn.ops import cross_entropy
from basiscli.rng import generator
from basiscli.training import optim
from basiscli.training.images import Standardisation, probe_batch
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run
from tests.helpers.networks import finish

RECIPE = Recipe(epochs=2, batch_size=32, augment="shift", clip=1.0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The first digits only, so that an epoch is a few steps."""
    digits = data.load("digits")
    return replace(digits, train=Split(digits.train.images[:150], digits.train.labels[:150]))


def network_of(dataset, **options):
    return models.mlp(dataset.train.images.shape[1:], dataset.classes, [20, 12], **options)


def trained(dataset, recipe, seeds, **options):
    return finish(Run.start(network_of(dataset, **options), recipe, dataset, seeds))


@pytest.mark.parametrize("optimizer, norm", [("sgd", "batch"), ("adamw", "layer")])
def test_a_seed_is_the_same_in_any_company(dataset, optimizer, norm):
    recipe = replace(RECIPE, optimizer=optimizer, weight_decay=0.01)
    together = trained(dataset, recipe, [0, 1, 2], norm=norm)
    alone = trained(dataset, recipe, [1], norm=norm)
    for path, values in alone.arrays.items():
        np.testing.assert_array_equal(values[0], together.arrays[path][1], err_msg=path)
    np.testing.assert_array_equal(
        np.array(alone.history["train_loss"])[:, 0], np.array(together.history["train_loss"])[:, 1]
    )


@pytest.mark.slow
def test_the_same_on_any_number_of_threads_and_out_of_the_cache(tmp_path):
    script = (
        "from basiscli import data; from basiscli.nn import models; from basiscli.training.recipe import Recipe\n"
        "from basiscli.training.run import Run\n"
        "digits = data.load('digits')\n"
        "network = models.mlp((8, 8, 1), 10, [70, 30], norm='batch')\n"
        "run = Run.start(network, Recipe(epochs=1, clip=1.0), digits, [0, 1])\n"
        "run.train_epoch(); print(run.history, run.theta.tobytes().hex())"
    )
    outputs = set()
    for threads in ("1", "2"):
        # The first of the two compiles, the second finds compiled kernels.
        environment = os.environ | {"NUMBA_NUM_THREADS": threads, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300
        )
        assert not done.returncode, done.stderr
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_training_lowers_the_loss_and_reaches_a_known_accuracy(dataset):
    digits = data.load("digits")
    run = Run.start(network_of(digits), Recipe(epochs=4, augment="all-shifts"), digits, [0, 1])
    finish(run)
    losses = np.array(run.history["train_loss"])
    assert (np.diff(losses, axis=0) < 0).all()
    assert (run.history["test_accuracy"][-1] > 0.85).all()


@pytest.mark.parametrize("vary", [(), ("init",), ("order",), ("augment",), ("init", "order", "augment")])
def test_only_the_streams_that_vary_differ(dataset, vary):
    run = Run.start(network_of(dataset), replace(RECIPE, vary=vary), dataset, [3, 4])
    different_init = (run.theta[0] != run.theta[1]).any()
    chosen, moves, labels = (values[:, 0] for values in next(run._batches())[:3])
    images = run._images(chosen, moves)
    different_order = (labels[0] != labels[1]).any()
    assert different_init == ("init" in vary)
    assert different_order == ("order" in vary)
    if "order" not in vary:
        assert (images[0] != images[1]).any() == ("augment" in vary)


def test_all_shifts_show_every_image_in_every_place_once(dataset):
    run = Run.start(network_of(dataset), replace(RECIPE, augment="all-shifts", batch_size=1350), dataset, [0])
    chosen, moves, labels = (values[:, 0] for values in next(run._batches())[:3])
    images = run._images(chosen, moves)
    assert images.shape == (1, 1350, 8, 8, 1)
    expected, expected_labels = probe_batch(dataset.train, run.standard, range(1350), shifted=True)
    assert sorted(map(bytes, images[0])) == sorted(map(bytes, expected[0]))
    np.testing.assert_array_equal(np.bincount(labels[0]), np.bincount(expected_labels[0]))


def test_a_shifted_probe_keeps_copies_of_an_image_together(dataset):
    run = Run.start(network_of(dataset), RECIPE, dataset, [0])
    images, labels = probe_batch(dataset.test, run.standard, range(9, 27), shifted=True)
    still, _ = probe_batch(dataset.test, run.standard, range(1, 3))
    np.testing.assert_array_equal(labels[0], np.repeat(dataset.test.labels[1:3], 9))
    np.testing.assert_array_equal(images[0, [4, 13]], still[0])  # the fifth shift is none


def test_frozen_weights_stay(dataset):
    recipe = replace(RECIPE, frozen=("hidden1/*",), weight_decay=0.1)
    run = Run.start(network_of(dataset), recipe, dataset, [0, 1])
    before = {path: values.copy() for path, values in run.arrays.items()}
    finish(run)
    for path, values in run.arrays.items():
        assert (values == before[path]).all() == path.startswith("hidden1/"), path


def test_a_diverged_seed_stops_and_the_others_go_on(dataset):
    good = trained(dataset, RECIPE, [0, 2])

    turns = iter(range(3))

    def poison(arrays):
        if next(turns) == 1:
            arrays["hidden1/w"][0, 0] = np.nan

    run = Run.start(network_of(dataset), RECIPE, dataset, [0, 1, 2], poison)
    poisoned = run.theta[1].copy()
    finish(run)
    assert run.alive.tolist() == [True, False, True]
    np.testing.assert_array_equal(run.theta[1], poisoned)
    np.testing.assert_array_equal(run.theta[[0, 2]], good.theta)


def test_clipping_bounds_the_step(dataset):
    recipe = replace(RECIPE, momentum=0.0, clip=1e-3, lr=1.0, schedule="constant")
    run = Run.start(network_of(dataset), recipe, dataset, [0, 1])
    before = run.theta.copy()
    run.train_epoch(stop=lambda: True)
    np.testing.assert_allclose(np.linalg.norm(run.theta - before, axis=1), 1e-3, rtol=1e-3)


def test_stop_ends_after_a_step(dataset):
    run = Run.start(network_of(dataset), RECIPE, dataset, [0])
    assert not run.train_epoch(stop=lambda: run.step >= 3)
    assert (run.epoch, run.step) == (0, 3)


def test_standardisation_of_a_constant_channel_is_finite():
    images = np.zeros((4, 2, 2, 2), np.uint8)
    images[..., 1] = np.arange(4)[:, None, None]
    standard = Standardisation.of(images)
    assert np.isfinite(standard.inverse).all() and standard.mean.tolist() == [0.0, 1.5]


def test_a_recipe_survives_its_file():
    recipe = replace(RECIPE, frozen=("a*", "b"), vary=("init",), start_from="donor.h5")
    assert Recipe.from_stored(recipe.stored()) == recipe
    with pytest.raises(BadInput, match="unknown fields dropout"):
        Recipe.from_stored(recipe.stored() | {"dropout": 0.1})


def test_one_step_agrees_with_pytorch():
    torch = pytest.importorskip("torch", exc_type=ImportError)
    seeds, samples = 2, 64
    network = models.mlp((28, 28, 1), 10, [50, 40])
    digits = data.load("digits")
    recipe = Recipe(weight_decay=0.01, nesterov=True)
    run = Run.start(
        network,
        recipe,
        replace(digits, train=Split(np.zeros((9, 28, 28, 1), np.uint8), digits.train.labels[:9])),
        range(seeds),
    )
    rng = generator(0, "pytorch")
    images = rng.standard_normal((seeds, samples, 28, 28, 1)).astype(np.float32)
    labels = rng.integers(0, 10, (seeds, samples))
    peers = []
    for s in range(seeds):
        layers = []
        for name in ("hidden1", "hidden2", "output"):
            w, b = run.arrays[f"{name}/w"][s], run.arrays[f"{name}/b"][s]
            linear = torch.nn.Linear(*w.shape)
            linear.weight.data, linear.bias.data = torch.tensor(w.T.copy()), torch.tensor(b.copy())
            layers += [linear, torch.nn.ReLU()]
        peer = torch.nn.Sequential(*layers[:-1])
        decayed = [layer.weight for layer in peer if isinstance(layer, torch.nn.Linear)]
        rest = [layer.bias for layer in peer if isinstance(layer, torch.nn.Linear)]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0}]
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
        loss = torch.nn.CrossEntropyLoss()(peer(torch.tensor(images[s].reshape(samples, -1))), torch.tensor(labels[s]))
        loss.backward()
        optimizer.step()
        peers.append((float(loss), peer))
    gradient = np.zeros_like(run.theta)
    views = run.layout.views(gradient)
    logits, _, caches = forward(network, run.arrays, images, train=True)
    loss, _, cache = cross_entropy.forward(logits, labels)
    backward(network, caches, cross_entropy.backward(cache), views)
    optim.step(
        "sgd", run.theta, gradient, run.optimizer, run.layout, np.ones(seeds), recipe.lr, 1,
        momentum=0.9, nesterov=True, weight_decay=0.01,
    )  # fmt: skip
    for s, (peer_loss, peer) in enumerate(peers):
        assert loss[s] == pytest.approx(peer_loss, rel=1e-5)
        for name, layer in zip(("hidden1", "hidden2", "output"), list(peer)[::2], strict=True):
            np.testing.assert_allclose(run.arrays[f"{name}/w"][s], layer.weight.detach().numpy().T, atol=1e-5)
            np.testing.assert_allclose(run.arrays[f"{name}/b"][s], layer.bias.detach().numpy(), atol=1e-5)


def test_a_seed_that_comes_up_twice_trains_as_it_would_alone(dataset):
    """Networks of one seed that start differently share images and features, and no number of theirs meets."""
    network, recipe = network_of(dataset), replace(RECIPE, frozen=("hidden1/*",), augment="crop")
    for frozen in ((), ("hidden1/*",)):
        recipe = replace(recipe, frozen=frozen)
        together = Run.start(network, recipe, dataset, [7, 3, 7])
        together.arrays["hidden1/w"][...] = together.arrays["hidden1/w"][0]
        together.arrays["hidden2/w"][2] *= np.float32(0.5)
        starts = together.theta.copy()
        finish(together)
        for s, seed in enumerate(together.seeds):
            alone = Run.start(network, recipe, dataset, [seed])
            alone.theta[...] = starts[s]
            finish(alone)
            np.testing.assert_array_equal(alone.theta[0], together.theta[s])
        assert (together.theta[0] != together.theta[2]).any()
