"""Where activations come from: stored, computed, or another program's arrays."""

import numpy as np
import pytest

from basiscli import data
from basiscli.errors import BadInput
from basiscli.files import activations, writer
from basiscli.files.networks import load, load_network, save_network
from basiscli.files.schema import TAPS


def read(source, size=1000):
    """All activations of a source, by layer."""
    chunks = list(source.chunks(list(source.layers), size))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in source.layers}


def by_hand(path, images):
    """Hidden activations of a plain ReLU network in five lines of numpy, float64."""
    loaded = load(path)
    x = ((images - loaded.standard.mean) * loaded.standard.inverse).reshape(len(images), -1).astype(np.float64)
    found = {}
    for name in loaded.network.layers:
        pre = x @ loaded.file.weights[f"{name}/w"] + loaded.file.weights[f"{name}/b"]
        found[name] = pre, np.maximum(pre, 0)
        x = found[name][1]
    return found


@pytest.mark.parametrize("tap", TAPS)
def test_activations_are_those_of_the_network(networks, tap):
    expected = by_hand(networks[0], data.load("digits").test.images)
    found = read(activations.open_source(str(networks[0]), "test", tap), size=100)
    for name, both in expected.items():
        np.testing.assert_allclose(found[name], both[tap == "post"], atol=1e-4)


def test_stored_activations_are_used_and_are_those_computed(networks):
    stored, computed = activations.open_source(str(networks[0])), activations.computed(str(networks[0]), "test", "post")
    assert stored.stored and not computed.stored
    assert (stored.layers, stored.samples, stored.inputs) == (computed.layers, computed.samples, computed.inputs)
    for name, values in read(stored).items():
        np.testing.assert_array_equal(values, read(computed)[name])


def test_a_shifted_probe(networks):
    source = activations.open_source(str(networks[0]), "test-shifts")
    assert (set(source.samples.values()), source.copies) == ({597 * 9}, 9)
    still = read(activations.open_source(str(networks[0])))["hidden1"]
    np.testing.assert_allclose(read(source)["hidden1"][4::9], still, atol=1e-5)


def test_one_layer_and_some_samples(networks):
    source = activations.open_all([str(networks[0])], layers=("*2",), samples=10)[0]
    assert list(source.layers) == ["hidden2"] and source.samples == {"hidden2": 10}
    assert read(source, size=4)["hidden2"].shape == (10, 24)


def test_what_does_not_fit_is_refused(networks):
    path = str(networks[0])
    with pytest.raises(BadInput, match=r"no layer matches 'conv\*'; it has hidden1, hidden2"):
        activations.open_all([path], layers=("conv*",))
    with pytest.raises(BadInput, match="has 597 samples, fewer than the 598 asked for"):
        activations.open_all([path], samples=598)


def test_different_inputs_are_refused(basiscli, networks, tmp_path):
    for split in ("test", "train"):
        basiscli("record", networks[0], "--split", split, "--samples", 50, "--out", tmp_path / f"{split}.h5")
    paths = [str(tmp_path / f"{split}.h5") for split in ("test", "train")]
    with pytest.raises(BadInput, match=r"test.h5 and .*train.h5 were shown different inputs"):
        activations.open_all(paths)


def test_a_data_set_that_has_changed_is_refused(networks, tmp_path):
    network = load_network(networks[0])
    network.dataset["checksum"] = "0" * 64
    save_network(tmp_path / "a.h5", network)
    with pytest.raises(BadInput, match=r"a.h5: the data set digits is not the one it was trained on"):
        activations.open_source(str(tmp_path / "a.h5"))


def test_arrays_of_another_program(tmp_path):
    writer.save_arrays(tmp_path / "ours.h5", {}, {})
    with pytest.raises(BadInput, match="results of an analysis"):
        activations.open_source(str(tmp_path / "ours.h5"))
    import h5py

    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["a/one"] = np.arange(12, dtype=np.float64).reshape(4, 3)
        file["two"] = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
        file["labels"] = np.arange(4)
    source = activations.open_source(str(tmp_path / "theirs.h5"))
    assert source.layers == {"a/one": 3, "two": 2} and source.inputs is None
    assert read(source)["two"].dtype == np.float32
    with h5py.File(tmp_path / "uneven.h5", "w") as file:
        file["one"], file["three"] = np.ones((4, 2)), np.ones((5, 2))
    assert activations.open_source(str(tmp_path / "uneven.h5")).samples == {"one": 4, "three": 5}
