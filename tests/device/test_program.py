"""Steps that are recorded and replayed: by either schedule, on any number of threads, the bits of the plain steps."""

from dataclasses import replace

import numba
import numpy as np
import pytest

from basiscli import data
from basiscli.data import Dataset, Split
from basiscli.device import program
from basiscli.kernels.cpu import replaying
from basiscli.nn import models
from basiscli.nn.ops import pointwise
from basiscli.rng import generator
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run

SHAPE = (8, 8, 3)
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.02, warmup=0.5)
NETWORKS = {
    "mlp": {"model": "mlp", "hidden": [20, 12]},
    "mlp of gelu with layernorm": {"model": "mlp", "hidden": [20, 12], "activation": "gelu", "norm": "layer"},
    "mlp of tanh with batchnorm": {"model": "mlp", "hidden": [20, 33], "activation": "tanh", "norm": "batch"},
    "convnet": {"model": "convnet", "layout": [4, "pool", 16]},
    "convnet of means": {"model": "convnet", "layout": [4, "pool", 6], "pooling": "average", "norm": "none"},
    "resnet A": {"model": "resnet", "depth": 8, "width": 0.25},
    "resnet B": {"model": "resnet", "depth": 8, "width": 1, "shortcut": "B"},
    "wideresnet with dropout": {"model": "wideresnet", "depth": 10, "width": 0.5, "dropout": 0.3},
}
MOVED = "nesterov, clipped, smoothed, moved"
RECIPES = {
    "sgd": RECIPE,
    MOVED: replace(RECIPE, nesterov=True, clip=0.5, label_smoothing=0.1, augment="crop,flip,cutout", weight_decay=0.01),
    "plain descent on all shifts": replace(RECIPE, momentum=0.0, augment="all-shifts", batch_size=100, vary=("init",)),
    "adamw": replace(RECIPE, optimizer="adamw", lr=0.002, weight_decay=0.1),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """50 images, so that an epoch has three whole batches and a smaller one."""
    rng = generator(0, "noise")
    parts = {}
    for split, count in (("train", 50), ("test", 30)):
        parts[f"{split}/images"] = rng.integers(0, 256, (count, *SHAPE)).astype(np.uint8)
        parts[f"{split}/labels"] = np.arange(count) % 5
    return data.from_arrays("noise", parts)


def network_of(name: str):
    return models.build({"input_shape": list(SHAPE), "classes": 5} | NETWORKS[name])


def plainly(monkeypatch) -> None:
    """Have steps run as they stand."""
    monkeypatch.setattr(replaying.Replayed, "run", lambda replayed, inputs: False)


def trained(network, recipe, dataset, seeds=(0, 1, 2), **options) -> Run:
    run = Run.start(network, recipe, dataset, seeds, **options)
    while not run.finished:
        run.train_epoch()
    return run


def assert_same(got: Run, expected: Run) -> None:
    for path, values in expected.arrays.items():
        np.testing.assert_array_equal(got.arrays[path], values, err_msg=path)
    for name, values in expected.history.items():
        np.testing.assert_array_equal(got.history[name], values, err_msg=name)


def recordings(run: Run) -> list:
    """The recordings of a run's training and evaluation."""
    programs = [run._program, *(evaluation._program for evaluation in run._evaluations.values())]
    return [found for one in programs for found in one._replay.__self__._recorded.values()]


@pytest.mark.parametrize(
    "name, recipe",
    [*(("mlp", recipe) for recipe in RECIPES), *((name, MOVED) for name in NETWORKS if name != "mlp"),
     ("resnet A", "adamw")],
)  # fmt: skip
def test_either_schedule_gives_the_bits_of_the_plain_step(name, recipe, dataset, monkeypatch):
    network, recipe = network_of(name), RECIPES[recipe]
    monkeypatch.setattr(program, "ALONE_BYTES", 1 << 30)
    alone = trained(network, recipe, dataset)
    assert all(found is not None for found in recordings(alone)), "not recorded"
    with monkeypatch.context() as patch:
        patch.setattr(program, "ALONE_BYTES", 0)
        together = trained(network, recipe, dataset)
    plainly(monkeypatch)
    plain = trained(network, recipe, dataset)
    assert {found.alone for found in recordings(alone)} == {3}
    assert {found.alone for found in recordings(together)} == {0}
    assert_same(alone, plain)
    assert_same(together, plain)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_number_of_threads_does_not_matter(seeds, dataset):
    found, before = [], numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.append(trained(network_of("resnet A"), RECIPE, dataset, seeds))
    finally:
        numba.set_num_threads(before)
    assert_same(*found)


def test_stretches_of_an_epoch_are_the_epoch(dataset):
    """A run that looks up after every step, and one that is interrupted and goes on, end as one that does neither."""
    network, recipe = network_of("mlp"), replace(RECIPE, augment="shift")
    whole = trained(network, recipe, dataset)
    looking = Run.start(network, recipe, dataset, (0, 1, 2))
    steps = []
    while not looking.finished:
        looking.train_epoch(tick=steps.append)
    assert steps == [1] * 8
    stopping = Run.start(network, recipe, dataset, (0, 1, 2))
    while not stopping.finished:
        stopping.train_epoch(stop=lambda: stopping.step % 3 == 2)
    assert_same(looking, whole)
    assert_same(stopping, whole)


@pytest.mark.parametrize("frozen", [(), ("hidden1/*",)])
def test_networks_of_one_seed_are_replayed(dataset, frozen, monkeypatch):
    recipe = replace(RECIPE, frozen=frozen)
    replayed = trained(network_of("mlp"), recipe, dataset, (7, 3, 7))
    plainly(monkeypatch)
    assert_same(replayed, trained(network_of("mlp"), recipe, dataset, (7, 3, 7)))


def test_a_diverged_seed_stays_alone_in_a_replay(dataset):
    turns = iter(range(3))

    def poison(arrays):
        if next(turns) == 1:
            arrays["hidden1/w"][0, 0] = np.nan

    run = trained(network_of("mlp"), RECIPE, dataset, adjust=poison)
    assert run.alive.tolist() == [True, False, True]
    good = trained(network_of("mlp"), RECIPE, dataset)
    np.testing.assert_array_equal(run.theta[[0, 2]], good.theta[[0, 2]])


def test_what_numpy_computes_runs_as_it_stands(dataset, monkeypatch):
    """An op without a kernel is no mistake, only slower."""
    expected = trained(network_of("mlp of tanh with batchnorm"), RECIPE, dataset)

    def forward(p, x, train, function):
        return np.tanh(x), (np.tanh(x), function)

    monkeypatch.setattr(pointwise, "forward", forward)
    monkeypatch.setattr(pointwise, "backward", lambda dy, cache, need_dx, dp: dy * (1 - cache[0] ** 2))
    run = trained(network_of("mlp of tanh with batchnorm"), RECIPE, dataset)
    assert recordings(run) and not any(recordings(run))
    np.testing.assert_allclose(run.theta, expected.theta, rtol=2e-4, atol=1e-4)


def test_float64_is_not_recorded(dataset):
    run = trained(network_of("mlp"), RECIPE, dataset, (0,), dtype=np.float64)
    assert run._program._replay is None
    np.testing.assert_allclose(run.theta, trained(network_of("mlp"), RECIPE, dataset, (0,)).theta, atol=1e-4)


def test_a_split_of_another_size_is_evaluated_in_the_same_memory(dataset, monkeypatch):
    run = trained(network_of("convnet"), RECIPE, dataset)
    blocks = sum(block.size for block in run._memory.blocks)
    loss, accuracy = run.evaluate(Split(dataset.train.images[:7], dataset.train.labels[:7]))
    assert sum(block.size for block in run._memory.blocks) == blocks
    plainly(monkeypatch)
    expected = run.evaluate(Split(dataset.train.images[:7], dataset.train.labels[:7]))
    np.testing.assert_array_equal((loss, accuracy), expected)
