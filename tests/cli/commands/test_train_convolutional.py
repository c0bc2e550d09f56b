"""`basiscli train` of convolutional models, and what else takes their files, through the real command line."""

from pathlib import Path

import numpy as np
import pytest

from basiscli.files import activations, checkpoint, hdf5
from basiscli.files.networks import load_network
from tests.helpers.files import assert_same_networks

TRAIN = ("train", "--epochs", 1, "--batch-size", 300, "--augment", "crop,flip,cutout")
CONVNET = (*TRAIN, "--model", "convnet", "--layout", "4,pool,6")
RESNET = (*TRAIN, "--model", "resnet", "--depth", 8, "--width", "1/4", "--label-smoothing", 0.1)
WIDE = (*TRAIN, "--model", "wideresnet", "--depth", 10, "--width", 0.5, "--dropout", 0.2)
VGG = (*TRAIN, "--model", "vgg", "--layout", "4,pool,6,pool", "--pooling", "average")
MODELS = {"convnet": CONVNET, "resnet": RESNET, "wideresnet": WIDE, "vgg": VGG}


@pytest.fixture(scope="module")
def pairs(basiscli, tmp_path_factory) -> dict[str, list[Path]]:
    """Two small networks of each model. Not to be changed."""
    found = {}
    for name, command in MODELS.items():
        done = basiscli(*command, "--seeds", 2, "--out", tmp_path_factory.mktemp(name))
        assert done.code == 0, done.stderr
        found[name] = [Path(record["path"]) for record in done.records]
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_is_the_same_alone(basiscli, pairs, model, tmp_path):
    basiscli(*MODELS[model], "--seeds", "1-1", "--out", tmp_path)
    assert_same_networks(tmp_path / "seed1.h5", pairs[model][1])


@pytest.mark.parametrize("model", MODELS)
def test_resuming_ends_in_the_same_weights(basiscli, pairs, model, tmp_path, monkeypatch):
    full = (*MODELS[model], "--epochs", 2, "--out")
    basiscli(*full, tmp_path / "whole")
    finish = checkpoint.snapshot
    seen = []

    def interrupted(run, seed, command):
        if run.epoch == 2:
            raise KeyboardInterrupt
        seen.append(run.epoch)
        return finish(run, seed, command)

    monkeypatch.setattr(checkpoint, "snapshot", interrupted)
    monkeypatch.setattr("basiscli.experiments.training_loop.CHECKPOINT_SECONDS", 0)
    assert basiscli(*full, tmp_path / "cut").code == 130 and seen == [1]
    monkeypatch.undo()
    assert basiscli(*full, tmp_path / "cut", "--resume").code == 0
    assert_same_networks(tmp_path / "cut/seed0.h5", tmp_path / "whole/seed0.h5")


def test_freezing_and_starting_from_a_donor(basiscli, pairs, tmp_path):
    donor = pairs["resnet"][0]
    taken = ("stem*", "block1/*")
    options = [part for glob in taken for part in ("--start-weights", glob, "--freeze", glob)]
    assert basiscli(*RESNET, "--seeds", "5-5", "--start-from", donor, *options, "--out", tmp_path).code == 0
    before, after = load_network(donor), load_network(tmp_path / "seed5.h5")
    for path, values in after.weights.items():
        same = path.startswith(("stem", "block1/"))
        assert (values == before.weights[path]).all() == same, path


def test_recording_and_correlating(basiscli, pairs, tmp_path):
    first, second = pairs["resnet"]
    stored = basiscli("correlate", first, second, "--split", "test").records
    assert [record["layer"] for record in stored] == [
        "stem", "block1/conv1", "block1/sum", "block2/conv1", "block2/sum", "block3/conv1", "block3/sum",
    ]  # fmt: skip
    assert [record["units_a"] for record in stored] == [4, 4, 4, 8, 8, 16, 16]
    assert all(-1 <= record["matched_held_out"] <= 1 for record in stored)
    for path in (first, second):
        done = basiscli("record", path, "--tap", "pre", "--layer", "block*", "--out", tmp_path / path.name)
        assert done.code == 0, done.stderr
    with hdf5.reading(tmp_path / first.name) as file:
        assert file.array("activations/test/block2/sum").shape == (597, 4, 4, 8)
    pre = basiscli("correlate", tmp_path / first.name, tmp_path / second.name, "--tap", "pre", "--split", "test")
    assert len(pre.records) == 6


def test_activations_that_are_computed_are_those_that_were_stored(pairs):
    for path in (paths[0] for paths in pairs.values()):
        stored = activations.open_source(str(path), "test", "post")
        computed = activations.computed(str(path), "test", "post")
        assert stored.stored and stored.layers == computed.layers
        whole = next(stored.chunks(list(stored.layers), 597))
        for layer, values in next(computed.chunks(list(computed.layers), 100)).items():
            np.testing.assert_array_equal(values, whole[layer][:100], err_msg=f"{path} {layer}")


def test_large_activations_are_not_stored_unasked(basiscli, tmp_path, monkeypatch):
    monkeypatch.setattr("basiscli.experiments.training.STORED_BYTES", 1000)
    basiscli(*CONVNET, "--out", tmp_path / "a")
    basiscli(*CONVNET, "--out", tmp_path / "b", "--activations")
    held = {}
    for name in "ab":
        with hdf5.reading(tmp_path / name / "seed0.h5") as file:
            held[name] = set(file.datasets("activations"))
    assert held == {"a": set(), "b": {"test/conv1", "test/conv2"}}


def test_a_dry_run_says_what_the_run_would_take_and_writes_nothing(basiscli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = basiscli(*RESNET, "--epochs", 3, "--seeds", 5, "--seed-batch", 2, "--dry-run")
    assert done.code == 0 and not list(tmp_path.iterdir())
    (record,) = done.records
    assert (record["steps"], record["seeds"], record["seeds_at_once"], record["epochs"]) == (12, 5, 2, 3)
    assert record["parameters"] == sum(v.size for v in _weights(basiscli, tmp_path).values())
    assert record["seconds"] > 0 and record["disk_mb"] > 0


def _weights(basiscli, folder):
    basiscli(*RESNET, "--out", folder)
    return load_network(folder / "seed0.h5").weights


@pytest.mark.parametrize(
    "options, words",
    [
        (("--model", "resnet", "--depth", 21), ("--depth 21", "6n + 2")),
        (("--model", "wideresnet", "--depth", 20), ("--depth 20", "6n + 4")),
        (("--model", "resnet", "--width", "1/32"), ("0.03125", "whole channels")),
        (("--model", "resnet", "--width", "0.3"), ("0.3", "4.8 channels")),
        (("--model", "vgg"), ("pool4 cannot halve 1x1", "--layout")),
        (("--model", "vgg", "--depth", 13), ("--depth 13", "11 or 16")),
        (("--model", "convnet", "--layout", "4,pool,4,pool,4,pool,4,pool"), ("pool4 cannot halve 1x1",)),
        (("--augment", "turn"), ("augment 'turn'", "crop")),
        (("--model", "resnet", "--freeze", "block9000/*"), ("no weight matches 'block9000/*'",)),
    ],
)
def test_models_that_cannot_be_are_refused(basiscli, tmp_path, options, words):
    basiscli("train", *options, "--out", tmp_path / "out").refused(*words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (("--model", "resnet", "--hidden", "5"), "--hidden is of mlp"),
        (("--model", "convnet", "--depth", "5"), "--depth is of mlp, vgg"),
        (("--model", "vgg", "--depth", "11", "--layout", "4"), "leave out --depth"),
        (("--shortcut", "A"), "--shortcut is of resnet"),
        (("--width", "1/2"), "whole number of units"),
        (("--model", "resnet", "--width", "1/0"), "1/4"),
        (("--model", "resnet", "--width", "0"), "above 0"),
        (("--model", "convnet", "--layout", "4,,5"), "64,64,pool,128"),
        (("--model", "convnet", "--layout", "pool"), "64,64,pool,128"),
        (("--model", "lenet"), "lenet"),
    ],
)
def test_command_lines_that_make_no_sense_are_refused(basiscli, options, words):
    basiscli("train", *options).refused(words, code=2)


def test_too_little_memory_is_said_before_training(basiscli, monkeypatch, tmp_path):
    monkeypatch.setattr("basiscli.device.memory.available", lambda: 1 << 20)
    done = basiscli(*RESNET, "--out", tmp_path / "out")
    done.refused("GB", "are free", "--width")


def test_a_donor_of_another_width_is_refused(basiscli, pairs, tmp_path):
    done = basiscli(
        *TRAIN, "--model", "resnet", "--depth", 8, "--start-from", pairs["resnet"][0], "--out", tmp_path / "o"
    )
    done.refused("stem/w", "(3, 3, 1, 4) does not fit ((3, 3, 1, 16))")
