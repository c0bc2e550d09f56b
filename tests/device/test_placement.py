"""Work on a device that stands for a GPU gives what the host gives, and asks of it nothing that a GPU cannot do.

The device is tests/emulation: kernels run by the emulation, launches noted and replayed, waiting and moving counted.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest

from basiscli import kernels
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files import checkpoint
from basiscli.nn import weights
from basiscli.rng import generator
from basiscli.training import augment
from basiscli.training.images import Standardisation, batch
from basiscli.training.run import Run
from tests.helpers.device import NETWORKS, RECIPE, SHAPE, assert_alike, host, images, run_of


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_the_host(device, name):
    """An epoch: a step that warms up, one that is captured, one of a smaller batch; and the evaluation."""
    network = NETWORKS[name]()
    ours = run_of(network, RECIPE)
    start = {path: values.copy() for path, values in ours.arrays.items()}
    ours.train_epoch()
    with placement.using("cuda"):
        theirs = run_of(network, RECIPE)
        assert kernels.on_gpu(theirs.theta)
        theirs.train_epoch()
        assert_alike(host(theirs), ours.arrays, start, 2e-3)
    for field, values in ours.history.items():
        np.testing.assert_allclose(theirs.history[field], values, rtol=1e-4, err_msg=field)


@pytest.mark.parametrize("optimizer, rest", [("sgd", {"nesterov": True}), ("sgd", {"momentum": 0.0}), ("adamw", {})])
def test_replayed_steps_are_those_of_the_host(device, optimizer, rest):
    """Three epochs, in which all but two steps of each size are replays, with a rate that changes every step."""
    recipe = replace(RECIPE, epochs=3, optimizer=optimizer, warmup=1.0, **rest)
    network = NETWORKS["mlp of gelu with layernorm"]()
    ours = run_of(network, recipe, (3, 1, 4))
    start = {path: values.copy() for path, values in ours.arrays.items()}
    before = device.graph_launches
    while not ours.finished:
        ours.train_epoch()
    with placement.using("cuda"):
        theirs = run_of(network, recipe, (3, 1, 4))
        while not theirs.finished:
            theirs.train_epoch()
        found = host(theirs)
    assert device.graph_launches - before == 3 * 3 - 2
    assert_alike(found, ours.arrays, start, 2e-2 if optimizer == "adamw" else 2e-3)


def test_no_step_waits_and_nothing_moves_within_an_epoch(device):
    with placement.using("cuda"):
        run = run_of(NETWORKS["resnet with projections"](), replace(RECIPE, epochs=2, batch_size=5))
        run.train_epoch()
        counted = []
        run.train_epoch(tick=lambda steps: counted.append((device.waits, device.uploads)))
    assert len(counted) == 4 and len(set(counted)) == 1


def test_a_replayed_step_launches_a_graph_and_copies_its_inputs_only(device):
    with placement.using("cuda"):
        run = run_of(NETWORKS["mlp"](), replace(RECIPE, epochs=2, batch_size=5))
        run.train_epoch()
        begin, launches = len(device.log), device.graph_launches
        run.train_epoch(stop=lambda: True)
        names = device.log[begin:]
    assert device.graph_launches == launches + 1
    outside = names[: names.index("gather_bytes")]
    assert outside.count("setitem") == 5 and set(outside) <= {"setitem", "getitem"}
    assert names[-1] in ("add", "setitem") or "sgd" in names


def test_what_is_captured_keeps_its_memory_to_itself(device):
    """Arrays that are made between replays are not written over, and those of a run are left where they are."""
    cupy = __import__("sys").modules["cupy"]
    with placement.using("cuda"):
        run = run_of(NETWORKS["convnet"](), replace(RECIPE, epochs=3, batch_size=10))
        run.train_epoch()
        address = {path: values.data.ptr for path, values in run.arrays.items()}
        bystanders = [cupy.asarray(np.full(count, 7, np.float32)) for count in (10, 100, 1000, 2000, 5000) * 4]
        run.train_epoch()
        run.train_epoch()
        assert all((b.get() == 7).all() for b in bystanders)
        assert address == {path: values.data.ptr for path, values in run.arrays.items()}


def test_a_seed_that_diverges_stays_alone_and_as_it_was(device):
    network = NETWORKS["mlp"]()
    with placement.using("cuda"):
        good = run_of(network, RECIPE, (0, 2))
        good.train_epoch()

        run = run_of(network, RECIPE, (0, 1, 2))
        run.arrays["hidden1/w"][1] = placement.to_device(np.full((192, 17), np.inf, np.float32))
        poisoned = placement.to_host(run.theta)[1]
        run.train_epoch()
        assert placement.to_host(run.alive).tolist() == [True, False, True]
        np.testing.assert_array_equal(placement.to_host(run.theta)[1], poisoned)
        np.testing.assert_allclose(placement.to_host(run.theta)[[0, 2]], placement.to_host(good.theta), atol=1e-6)


def test_a_frozen_bottom_is_cached_on_the_device(device):
    network, recipe = NETWORKS["mlp"](), replace(RECIPE, frozen=("hidden1/*",), augment="shift", epochs=12)
    donor = weights.initial(network, 9)

    def adjust(arrays):
        for path in ("hidden1/w", "hidden1/b"):
            arrays[path][...] = donor[path]

    runs = []
    for place in ("cpu", "cuda"):
        with placement.using(place):
            run = Run.start(network, recipe, images(), (0, 1), adjust)
            assert run.cache
            run.train_epoch()
            runs.append(host(run))
    start = {path: np.stack([weights.initial(network, s)[path] for s in (0, 1)]) for path in network.trained}
    assert_alike(runs[1], runs[0], start, 2e-3)


def test_a_checkpoint_of_one_resumes_on_the_other(device, tmp_path):
    network, recipe = NETWORKS["resnet with projections"](), replace(RECIPE, epochs=2)
    whole = run_of(network, recipe)
    start = {path: values.copy() for path, values in whole.arrays.items()}
    whole.train_epoch()
    files = [copy.deepcopy(checkpoint.snapshot(whole, s, "")) for s in range(2)]
    whole.train_epoch()
    with placement.using("cuda"):
        run = checkpoint.resume(files, images())
        assert kernels.on_gpu(run.theta)
        run.train_epoch()
        back = [checkpoint.snapshot(run, s, "") for s in range(2)]
    for s, file in enumerate(back):
        found = file.weights | file.state
        assert all(isinstance(values, np.ndarray) for values in found.values())
        expected = {path: values[s] for path, values in whole.arrays.items()}
        assert_alike(found, expected, {path: values[s] for path, values in start.items()}, 2e-3)


def test_a_resumed_run_ends_in_the_same_bits(device):
    network, recipe = NETWORKS["resnet with projections"](), replace(RECIPE, epochs=2, batch_size=6)
    with placement.using("cuda"):
        whole = run_of(network, recipe)
        while not whole.finished:
            whole.train_epoch()
        part = run_of(network, recipe)
        part.train_epoch()
        part.train_epoch(stop=lambda: part.step == 2)
        resumed = checkpoint.resume([checkpoint.snapshot(part, s, "") for s in range(2)], images())
        assert (resumed.epoch, resumed.step) == (1, 2)
        resumed.train_epoch()
        expected, found = host(whole), host(resumed)
    for path, values in expected.items():
        np.testing.assert_array_equal(found[path], values, err_msg=path)
    for field, values in whole.history.items():
        np.testing.assert_array_equal(resumed.history[field], values, err_msg=field)


@pytest.mark.parametrize("precision, least, most", [("tf32", 1e-7, 1e-2), ("bf16", 1e-5, 1e-1)])
def test_precisions_change_products_and_little_else(device, precision, least, most):
    network = NETWORKS["resnet with projections"]()
    losses = []
    for asked in ("float32", precision):
        with placement.using("cuda", asked):
            run = run_of(network, replace(RECIPE, clip=None))
            run.train_epoch()
            losses.append(run.history["train_loss"][0])
    assert least < np.abs(losses[1] - losses[0]).max() < most


def test_every_move_of_an_image_is_that_of_the_host(device):
    split, standard = images().train, Standardisation.of(images().train.images)
    for text in ("crop,flip,cutout", "shift", "flip"):
        names = augment.parse(text)
        moves = augment.moves(names, SHAPE[:2], 20, lambda *name: generator(3, *name))[None]
        hole = augment.hole(names, SHAPE[:2])
        chosen = np.arange(20)[None]
        expected = batch(split, chosen, moves, standard, hole)
        with placement.using("cuda"):
            got = placement.to_host(batch(split, chosen, moves, standard, hole))
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_where_the_work_is_done_is_chosen_for_a_while(device):
    assert not placement.on_gpu() and not kernels.on_gpu(placement.to_device(np.zeros(2)))
    with placement.using("auto"):
        assert placement.on_gpu() and kernels.on_gpu(placement.to_device(np.zeros(2)))
    with placement.using("cpu"):
        assert not placement.on_gpu()


def test_an_array_is_moved_once_in_its_life(device):
    values = np.arange(5.0)
    with placement.using("cuda"):
        assert placement.to_device_cached(values) is placement.to_device_cached(values)
        count = len(placement._cached)
        del values
        assert len(placement._cached) == count - 1


def test_precisions_of_a_gpu_are_refused_on_the_host():
    with pytest.raises(BadInput, match="only a GPU"), placement.using("cpu", "tf32"):
        pass


def broken(error: Exception):
    def call(*_):
        raise error

    return call


def test_every_trouble_is_named_with_a_way_out(device, monkeypatch):
    cupy = __import__("sys").modules["cupy"]
    nvrtc = __import__("sys").modules["cupy_backends.cuda.libs.nvrtc"]
    assert placement.trouble() is None
    cases = (
        (cupy.cuda.runtime, "getDeviceCount", lambda: 0, "no GPU"),
        (cupy.cuda.runtime, "getDeviceCount", broken(cupy.cuda.runtime.CUDARuntimeError("old")), "driver that fits"),
        (nvrtc, "getVersion", broken(RuntimeError("no libnvrtc.so")), "library of CUDA is missing"),
        (placement, "capability", lambda: 75, "capability 8.0"),
    )
    for where, name, wrong, words in cases:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, wrong)
            with pytest.raises(BadInput, match=f"{words}.*`device` cpu"), placement.using("cuda", "tf32"):
                pass
            if where is not placement:
                with placement.using("auto"):
                    assert not placement.on_gpu()
                with pytest.raises(BadInput, match=f"only a GPU has it .*{words}"), placement.using("auto", "tf32"):
                    pass


def test_without_a_driver_cupy_is_not_imported(device, monkeypatch):
    monkeypatch.setattr(placement, "_driver", lambda: False)
    monkeypatch.setattr(
        __import__("sys").modules["cupy"].cuda.runtime, "getDeviceCount", broken(AssertionError("asked"))
    )
    assert "no NVIDIA driver" in placement.trouble()
