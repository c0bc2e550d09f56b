"""Networks in a program: what they say, look like and become, against the command line and the files."""

import h5py
import numpy as np
import pytest

import basiscli
from basiscli import data
from tests.helpers.command_line import done

OPTIONS = {"hidden": (12, 8), "epochs": 1}


@pytest.fixture(scope="module")
def network(networks) -> basiscli.TrainedNetwork:
    return basiscli.load(networks[0])


@pytest.fixture(scope="module")
def shown() -> np.ndarray:
    return data.load("digits").test.images


def test_predictions_are_as_accurate_as_training_said(network, shown):
    labels = data.load("digits").test.labels
    accuracy = (network.predict(shown).argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(network.history["test_accuracy"][-1], abs=1e-6)


def test_images_come_with_or_without_a_channel_as_bytes_or_floats(network, shown):
    expected = network.predict(shown[:7])
    for images in (shown[:7, ..., 0], shown[:7].astype(np.float32), shown[:7].astype(np.float64)):
        np.testing.assert_array_equal(network.predict(images), expected)


def test_many_images_are_shown_in_batches(network, shown):
    many = np.tile(shown, (4, 1, 1, 1))
    logits = network.predict(many)
    assert len(many) > 2000 and logits.shape == (len(many), 10)
    np.testing.assert_allclose(logits[-len(shown) :], network.predict(shown), atol=1e-5)


@pytest.mark.parametrize("tap", ["post", "pre"])
def test_activations_are_those_that_record_writes(network, shown, tmp_path, tap):
    out = tmp_path / "recorded.h5"
    done("record", network.path, "--tap", tap, "--out", out)
    with h5py.File(out) as file:
        for layer in network.layers:
            recorded = file[f"activations/test/{layer}"][:]
            np.testing.assert_allclose(network.activations(layer, shown, tap=tap), recorded, atol=1e-5)


def test_a_permuted_network_is_the_same_function(network, shown):
    order = np.random.default_rng(0).permutation(24)
    moved = network.permute({"hidden1": order})
    np.testing.assert_array_equal(moved.weights["hidden1/w"], network.weights["hidden1/w"][:, order])
    np.testing.assert_allclose(moved.predict(shown), network.predict(shown), atol=1e-4)
    assert moved.path is None and network.groups == moved.groups == {"hidden1": 24, "hidden2": 24}


def test_weights_cannot_be_changed_by_accident(network):
    with pytest.raises(ValueError, match="read-only"):
        network.weights["hidden1/w"][0, 0] = 1


def test_a_saved_network_comes_back(network, tmp_path):
    path = tmp_path / "copy.h5"
    network.permute({}).save(path)
    back = basiscli.load(path)
    assert back.path == str(path) and back.seed == network.seed and back.status == "done"
    for name, values in network.weights.items():
        np.testing.assert_array_equal(back.weights[name], values)
    with pytest.raises(basiscli.BadInput, match="`force`"):
        network.save(path)
    network.save(path, force=True)


def test_training_gives_bitwise_the_weights_of_the_command(tmp_path):
    trained = done("train", "--hidden", "12,8", "--epochs", 1, "--seeds", "4,2", "--out", tmp_path / "command")
    kept = basiscli.train(seeds=[4, 2], out=tmp_path / "program", **OPTIONS)
    unkept = basiscli.train(seeds=[4, 2], **OPTIONS)
    assert [network.seed for network in kept] == [4, 2]
    for record, one, other in zip(trained.records, kept, unkept, strict=True):
        expected = basiscli.load(record["path"]).weights
        for path, values in expected.items():
            np.testing.assert_array_equal(one.weights[path], values)
            np.testing.assert_array_equal(other.weights[path], values)
    assert kept[0].path == str(tmp_path / "program/seed4.h5") and unkept[0].path is None


def test_kept_networks_are_gone_on_with(tmp_path):
    first = basiscli.train(out=tmp_path, **OPTIONS)
    with pytest.raises(basiscli.BadInput, match="seed0"):
        basiscli.train(out=tmp_path, **OPTIONS)
    again = basiscli.train(out=tmp_path, resume=True, seeds=2, **OPTIONS)
    np.testing.assert_array_equal(first[0].weights["output/w"], again[0].weights["output/w"])


def test_networks_are_kept_on_the_way(tmp_path):
    basiscli.train(out=tmp_path, **OPTIONS | {"epochs": 3, "keep": "log", "activations": False})
    kept = [path.name for path in sorted(tmp_path.iterdir())]
    assert kept == ["seed0-epoch0.h5", "seed0-epoch1.h5", "seed0-epoch2.h5", "seed0.h5"]
    start = basiscli.load(tmp_path / kept[0])
    assert start.status == "unfinished" and not start.weights["output/b"].any()


def test_networks_show_as_tables(network):
    assert repr(network) == "TrainedNetwork(mlp, hidden1 24, hidden2 24, seed 0)"
    assert "hidden2" in network._repr_html_()


@pytest.mark.parametrize(
    "said, call",
    [
        ("`images` has the shape", lambda network: network.predict(np.zeros((2, 9, 9)))),
        ("`images` has the shape", lambda network: network.predict(np.zeros((0, 8, 8)))),
        ("`images` holds int64", lambda network: network.predict(np.zeros((2, 8, 8), int))),
        ("`layer` is 'hidden9'", lambda network: network.activations("hidden9", np.zeros((2, 8, 8)))),
        ("`tap` is 'mid'", lambda network: network.activations("hidden1", np.zeros((2, 8, 8)), tap="mid")),
        ("`permutations`: no group 'x'", lambda network: network.permute({"x": [0]})),
        ("`permutations`: 'hidden1' has the shape", lambda network: network.permute({"hidden1": [0, 1]})),
        ("hidden1: not a permutation", lambda network: network.permute({"hidden1": [0] * 24})),
        ("`seeds` is 0", lambda network: basiscli.train(seeds=0)),
        ("`seeds` is [1, 1]", lambda network: basiscli.train(seeds=[1, 1])),
        ("`colour`: no option", lambda network: basiscli.train(colour="red")),
        ("`model` is 'gpt'", lambda network: basiscli.train(model="gpt")),
        ("`optimizer` is 'luck'", lambda network: basiscli.train(optimizer="luck")),
        ("`epochs` is '3'", lambda network: basiscli.train(epochs="3")),
        ("`lr` is nan", lambda network: basiscli.train(lr=float("nan"))),
        ("`momentum` is 1", lambda network: basiscli.train(momentum=1)),
        ("`hidden` is 0", lambda network: basiscli.train(hidden=[64, 0])),
        ("`keep` is -1", lambda network: basiscli.train(keep=[0, -1], out="nowhere")),
        ("`keep` writes networks into files", lambda network: basiscli.train(keep=["log"])),
        ("`vary` has 'luck'", lambda network: basiscli.train(vary=["luck"])),
        ("`depth` is of", lambda network: basiscli.train(model="convnet", depth=3)),
        ("nowhere: no such", lambda network: basiscli.train("nowhere")),
        ("no weight matches 'x*'", lambda network: basiscli.train(freeze="x*", hidden=8)),
        ("missing.h5: no such file", lambda network: basiscli.load("missing.h5")),
    ],
)
def test_misuse_is_named(network, said, call):
    with pytest.raises(basiscli.BadInput) as caught:
        call(network)
    assert str(caught.value).startswith(said)
