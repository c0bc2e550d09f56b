"""Every command works on imported networks, and those that it makes go back to PyTorch."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from basiscli.files.networks import load
from basiscli.foreign.exporting import export_network
from basiscli.nn.graph import predict
from tests.helpers.command_line import call, done
from tests.helpers.peers import CLASSES, FIXTURES, IMAGES, MODULES

PREPARED = ("--mean", 0.5, "--std", 0.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that imports a fixture with images of its size, and its permuted copy, each once."""
    folder, known = tmp_path_factory.mktemp("imported"), {}

    def pair(name: str) -> tuple[Path, Path]:
        if name not in known:
            rng, data = np.random.default_rng(0), folder / f"{name}.npz"
            arrays = {}
            for split, count in (("train", 64), ("test", 40)):
                arrays[f"{split}/images"] = rng.integers(0, 256, (count, *IMAGES[name])).astype(np.uint8)
                arrays[f"{split}/labels"] = np.arange(count) % CLASSES
            np.savez(data, **arrays)
            a, b = folder / f"{name}.h5", folder / f"{name}-moved.h5"
            modules = ("--modules", MODULES[name]) if name in MODULES else ()
            proof = ("--check", FIXTURES / f"{name}.npz", "--dataset", data, *PREPARED, *modules)
            done("import", FIXTURES / f"{name}.safetensors", *proof, "--out", a)
            done("transform", a, "--permute", 1, "--out", b)
            known[name] = a, b
        return known[name]

    return pair


@pytest.mark.parametrize("name", ["torchvision-18", "torchvision-50", "cifar-a", "wide-biased", "vgg-bn", "named"])
def test_match_finds_a_planted_permutation_and_proves_the_same_function(made, name, tmp_path):
    a, b = made(name)
    total = done("match", a, b, "--by", "weights", "--apply", tmp_path / "back.h5").records[-1]
    assert total["objective_after"] == pytest.approx(1, abs=1e-5) and total["objective_before"] < 0.9
    assert total["logit_difference"] < 1e-5
    first, back = load(a), load(tmp_path / "back.h5")
    for path, values in first.arrays.items():
        np.testing.assert_array_equal(back.arrays[path], values, err_msg=path)


@pytest.mark.parametrize("name, correct", [("torchvision-50", "none,reset-bn,repair"), ("named", "none,repair")])
def test_a_walk_to_a_permuted_copy_is_flat_after_matching(made, name, correct):
    a, b = made(name)
    options = ("--match", "none,weights", "--correct", correct, "--points", 3, "--correct-on", 64)
    records = done("interpolate", a, b, *options).records
    flat = [record for record in records if record["match"] == "weights"]
    assert len(flat) == len(correct.split(","))
    for record in flat:
        assert abs(record["barrier"]) < 1e-4, record["correct"]


def test_a_merged_network_with_shares_goes_back_to_pytorch(made, tmp_path):
    a, b = made("cifar-a")
    shares = ("--weights", "0.3,0.7", "--correct", "none", "--match", "none")
    record = done("merge", a, b, *shares, "--out", tmp_path / "merged.h5").records[0]
    assert record["weights"] == [0.3, 0.7]
    for path, values in load(tmp_path / "merged.h5").arrays.items():
        expected = 0.3 * load(a).arrays[path] + 0.7 * load(b).arrays[path]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    export_network(str(tmp_path / "merged.h5"), tmp_path / "merged.safetensors")
    assert set(load_file(tmp_path / "merged.safetensors")) == set(load_file(FIXTURES / "cifar-a.safetensors"))
    for wrong in ("0.3,0.3", "1", "0.2,0.3,0.5"):
        call("merge", a, b, "--weights", wrong, "--out", tmp_path / "x.h5").refused("--weights", "2 numbers")


@pytest.mark.slow
def test_rotated_imported_networks_go_back_to_pytorch(made, tmp_path):
    """A rotation after BatchNorm becomes a map of its own; retraining wants to be told how."""
    a, _ = made("torchvision-50")
    options = ("--layer", "block1/conv1", "--repeats", 1, "--out", tmp_path / "rotated")
    call("rotate", a, *options).refused("--epochs", "--lr")
    done("rotate", a, *options, "--retrain", "none", "--kind", "orthogonal")
    (rotated,) = (tmp_path / "rotated").rglob("orthogonal/*.h5")
    record = export_network(str(rotated), tmp_path / "net.safetensors", module=tmp_path / "net.py")
    assert record["maps"] == 1 and load(rotated).file.imported == load(a).file.imported
    torch = pytest.importorskip("torch")
    scope: dict = {}
    exec((tmp_path / "net.py").read_text(), scope)
    state = {name: torch.tensor(values) for name, values in load_file(tmp_path / "net.safetensors").items()}
    scope["net"].load_state_dict(state)
    images = np.random.default_rng(0).standard_normal((2, *IMAGES["torchvision-50"])).astype(np.float32)
    with torch.no_grad():
        theirs = scope["net"].eval()(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    loaded = load(rotated)
    np.testing.assert_allclose(theirs, predict(loaded.network, loaded.arrays, images[None])[0][0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_retraining_sees_images_as_the_network_was_trained_on(made, tmp_path):
    a, _ = made("named")
    options = ("--layer", "conv1", "--repeats", 1, "--epochs", 1, "--lr", 0.01, "--kind", "permutation")
    done("rotate", a, *options, "--out", tmp_path / "rotated")
    for path in (tmp_path / "rotated").rglob("*.h5"):
        np.testing.assert_array_equal(load(path).standard.inverse, load(a).standard.inverse)
        assert load(path).standard.inverse[0] == pytest.approx(4 / 255)


def test_records_and_correlations(made, tmp_path):
    a, b = made("torchvision-50")
    done("record", a, "--layer", "block1/conv2", "--out", tmp_path / "a.h5")
    records = done(
        "correlate", a, b, "--layer", "stem,block1/*", "--null", "rotated", "--draws", 3, "--dead", "drop"
    ).records
    assert [record["layer"] for record in records] == ["stem", "block1/conv1", "block1/conv2", "block1/sum"]
    assert all(record["matched"] == pytest.approx(1, abs=1e-5) for record in records)


@pytest.mark.slow
def test_connectivity_takes_imported_networks(made):
    a, b = made("torchvision-18-cifar")
    options = ("--match", "weights", "--points", 3, "--correct-on", 64, "--draws", 2)
    (record, *_) = done("connectivity", a, b, *options).records
    assert record["width"] == 0.0625 and record["networks"] == 2


def test_training_does_not_start_from_weights_that_read_other_numbers(made, tmp_path):
    a, _ = made("cifar-a")
    data = load(a).file.dataset["name"]
    options = ("--dataset", data, "--model", "resnet", "--depth", 8, "--width", "1/4", "--epochs", 0, "--start-from", a)
    call("train", *options, "--out", tmp_path / "runs").refused(a, "standardised otherwise")


def test_networks_of_other_images_are_not_walked_between(made, tmp_path):
    a, _ = made("cifar-a")
    other = ("--dataset", load(a).file.dataset["name"], "--mean", 0.4, "--std", 0.25)
    done("import", FIXTURES / "cifar-a.safetensors", *other, "--out", tmp_path / "b.h5")
    outcome = call("match", a, tmp_path / "b.h5", "--by", "weights")
    assert outcome.code == 1 and not outcome.stdout and "standardised otherwise" in outcome.stderr
