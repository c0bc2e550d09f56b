"""`basiscli transform` through its command line."""

import numpy as np
import pytest

from basiscli.alignment import transform
from basiscli.files.networks import load_network, save_network
from basiscli.nn.unit_groups import permute_units
from tests.helpers.command_line import call


def changed(*arguments: object) -> dict:
    outcome = call("transform", *arguments)
    assert outcome.code == 0, outcome.stderr
    return outcome.records[0]


def test_a_permuted_network_computes_the_same(networks, tmp_path):
    out = tmp_path / "permuted.h5"
    record = changed(networks[0], "--permute", 3, "--out", out)
    assert record["groups"] == "hidden1,hidden2" and record["exact"] and record["largest_difference"] < 1e-5
    before, after = load_network(networks[0]), load_network(out)
    assert after.origin == {"made": "transform", "of": [str(networks[0])], "permute": 3, "layers": ["*"]}
    assert list(after.history["test_accuracy"]) == list(before.history["test_accuracy"])
    assert (np.sort(after.weights["hidden1/w"]) == np.sort(before.weights["hidden1/w"])).all()
    assert (after.weights["hidden1/w"] != before.weights["hidden1/w"]).any()
    found = call("correlate", networks[0], out).records
    assert all(r["matched"] > r["identity"] + 0.3 for r in found)


def test_a_permutation_that_changes_the_function_is_not_written(networks, tmp_path, monkeypatch):
    permute = permute_units

    def half(found, arrays, permutations):
        return permute(found, arrays, permutations) | {"output/w": arrays["output/w"]}

    monkeypatch.setattr(transform, "permute_units", half)
    call("transform", networks[0], "--permute", 3, "--out", tmp_path / "a.h5").refused("its permuted logits differ by")
    assert not (tmp_path / "a.h5").exists()


def test_a_layer_alone_and_its_seed(networks, tmp_path):
    first = changed(networks[0], "--permute", 3, "--layer", "hidden2", "--out", tmp_path / "a.h5")
    changed(networks[0], "--permute", 3, "--layer", "hidden2", "--out", tmp_path / "b.h5")
    changed(networks[0], "--permute", 4, "--layer", "hidden2", "--out", tmp_path / "c.h5")
    a, b, c = (load_network(tmp_path / name).weights for name in ("a.h5", "b.h5", "c.h5"))
    assert first["groups"] == "hidden2"
    before = load_network(networks[0]).weights
    np.testing.assert_array_equal(a["hidden1/w"], before["hidden1/w"])
    np.testing.assert_array_equal(a["output/w"], b["output/w"])
    assert (a["output/w"] != c["output/w"]).any()


def test_a_rotation_is_exact_in_a_linear_network_only(networks, tmp_path):
    assert call("train", "--hidden", "12,12", "--activation", "linear", "--epochs", 1, "--out", tmp_path).code == 0
    linear = changed(tmp_path / "seed0.h5", "--rotate", 1, "--out", tmp_path / "a.h5")
    assert linear["exact"] and linear["largest_difference"] < 1e-5 and linear["accuracy"] == linear["accuracy_before"]
    relu = changed(networks[0], "--rotate", 1, "--out", tmp_path / "b.h5")
    assert not relu["exact"] and relu["largest_difference"] > 0.1 and relu["accuracy"] < relu["accuracy_before"]
    assert load_network(tmp_path / "b.h5").history == {}


@pytest.mark.parametrize("norm, code", [("batch", 1), ("none", 0)])
def test_a_residual_network(norm, code, tmp_path):
    model = ("--model", "resnet", "--depth", 8, "--width", "1/8", "--norm", norm, "--activation", "linear")
    assert call("train", *model, "--epochs", 0, "--out", tmp_path).code == 0
    network = tmp_path / "seed0.h5"
    record = changed(network, "--permute", 0, "--out", tmp_path / "p.h5")
    assert record["largest_difference"] < 1e-5 and "block2/sum[2:4]" in record["groups"]
    outcome = call("transform", network, "--rotate", 0, "--layer", "stem", "--out", tmp_path / "r.h5")
    assert outcome.code == code
    if code:
        outcome.refused("scales single units, which a rotation mixes")
        assert not (tmp_path / "r.h5").exists()


def test_what_cannot_be_done_is_refused(networks, tmp_path):
    out = ("--out", tmp_path / "a.h5")
    call("transform", networks[0], *out).refused("give one of --permute and --rotate", code=2)
    call("transform", networks[0], "--permute", 1, "--rotate", 1, *out).refused("give one of", code=2)
    call("transform", networks[0], "--permute", 1).refused("--out", code=2)
    call("transform", networks[0], "--permute", 1, "--layer", "conv*", *out).refused("--layer conv*: no such layer")
    call("transform", networks[0], "--permute", 1, "--out", networks[1]).refused("exists; --force overwrites it")
    unfinished = load_network(networks[0])
    unfinished.status = "unfinished"
    save_network(tmp_path / "u.h5", unfinished)
    call("transform", tmp_path / "u.h5", "--permute", 1, *out).refused("u.h5: is unfinished")
    broken = load_network(networks[0])
    broken.weights["hidden1/w"][0, 0] = np.nan
    save_network(tmp_path / "nan.h5", broken)
    for how in ("--permute", "--rotate"):
        call("transform", tmp_path / "nan.h5", how, 1, *out).refused("nan.h5: hidden1/w holds values that are not")
    assert not (tmp_path / "a.h5").exists()
