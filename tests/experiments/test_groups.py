"""Networks that do not fit the memory together are trained in smaller groups; a lost card leaves a checkpoint."""

import numpy as np
import pytest

from basiscli.device import placement
from basiscli.experiments import training_loop
from basiscli.experiments.groups import train_groups
from basiscli.experiments.training_loop import SeedGroup
from basiscli.files.networks import load_network
from tests.emulation import fake
from tests.emulation.device import ILLEGAL_ADDRESS, Graph

TRAIN = ("train", "--augment", "none", "--width", 12, "--depth", 2, "--batch-size", 200, "--no-activations")


@pytest.fixture
def device():
    """A fake GPU of its own for each test: these break it."""
    with fake.installed() as there:
        yield there


def train_up_to(most: int):
    """Return what trains groups of no more than so many, and the sizes that it was asked for."""
    asked = []

    def train(group):
        asked.append(len(group.members))
        if len(group.members) > most:
            raise MemoryError("no room")
        return sum(group.members)

    return train, asked


def test_groups_are_halved_until_they_fit(caplog):
    train, asked = train_up_to(2)
    groups = [SeedGroup(tuple(range(9))), SeedGroup((9, 10, 11), ("a", "b", "c"))]
    done = list(train_groups(groups, train))
    assert asked == [9, 4, 2, 2, 2, 2, 1, 2, 1]
    assert [member for group, _ in done for member in group.members] == list(range(12))
    assert [group.files for group, _ in done[-2:]] == [("a", "b"), ("c",)]
    assert [result for _, result in done] == [sum(group.members) for group, _ in done]
    said = caplog.messages
    assert said == [f"not enough memory (no room); goes on with {most} at once" for most in (4, 2)]


def test_one_network_that_does_not_fit_is_an_error():
    train, asked = train_up_to(0)
    with pytest.raises(MemoryError, match="no room"):
        list(train_groups([SeedGroup((1, 2, 3))], train))
    assert asked == [3, 1]


def weights_in(folder, seed: int = 0) -> dict[str, np.ndarray]:
    return load_network(folder / f"seed{seed}.h5").weights


def test_training_goes_on_with_fewer_seeds_where_a_card_is_too_small(basiscli, device, tmp_path):
    words, peaks = (*TRAIN, "--epochs", 1, "--seeds", 4, "--device", "cuda"), {}
    for size in (1, 2, 4):
        placement.release_memory()
        device.peak = 0
        assert basiscli(*words, "--seed-batch", size, "--out", tmp_path / str(size)).code == 0
        peaks[size] = device.peak
    placement.release_memory()
    device.memory = (peaks[2] + peaks[4]) // 2
    done = basiscli(*words, "--seed-batch", 4, "--out", tmp_path / "small")
    assert done.code == 0, done.stderr
    assert "goes on with 2 at once" in done.stderr and len(done.records) == 4, peaks
    for seed in range(4):
        for path, values in weights_in(tmp_path / "4", seed).items():
            np.testing.assert_allclose(weights_in(tmp_path / "small", seed)[path], values, atol=1e-5)


def test_as_many_seeds_are_trained_at_once_as_a_small_card_has_room_for(basiscli, device, tmp_path):
    """What is reckoned for one seed is enough: nothing has to be halved."""
    device.memory = device.taken + (120 << 20)
    done = basiscli(*TRAIN, "--epochs", 1, "--seeds", 30, "--device", "cuda", "--out", tmp_path)
    assert done.code == 0 and "at once" not in done.stderr, done.stderr


def test_a_card_that_is_lost_leaves_its_last_checkpoint(basiscli, device, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", 0)
    words = (*TRAIN, "--epochs", 3, "--checkpoint-every", 1, "--device", "cuda")
    assert basiscli(*words, "--out", tmp_path / "whole").code == 0
    right, launches = Graph.launch, []

    def launch(self, stream=None):
        launches.append(1)
        if len(launches) == 12:
            device.fault = ILLEGAL_ADDRESS
        right(self, stream)

    with monkeypatch.context() as patch:
        patch.setattr(Graph, "launch", launch)
        patch.setattr("basiscli.experiments.training_loop.CHECKPOINT_SECONDS", 0)
        lost = basiscli(*words, "--out", tmp_path / "lost")
    assert lost.code == 1
    last = lost.stderr.splitlines()[-1]
    assert (
        "the GPU failed in training (cudaErrorIllegalAddress" in last and "--resume goes on from what was saved" in last
    )
    position = load_network(tmp_path / "lost/seed0.h5").position
    assert 1 <= position["epoch"] < 3

    device.fault = None  # as in another process
    done = basiscli(*words, "--out", tmp_path / "lost", "--resume")
    assert done.code == 0, done.stderr
    for path, values in weights_in(tmp_path / "whole").items():
        np.testing.assert_array_equal(weights_in(tmp_path / "lost")[path], values)
