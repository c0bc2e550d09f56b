import os
import re
from pathlib import Path

import numpy as np
import pytest

from basiscli.data import load, locate, names
from basiscli.data.cache import is_official
from basiscli.data.registry import ENTRIES, lookup
from basiscli.errors import BadInput


def present(name: str):
    """Skip a test without the data; they are looked for where the environment says, never downloaded."""
    entry = lookup(name)
    complete = "BASISCLI_DATA" in os.environ and len(locate(entry)) == len(entry.files)
    return pytest.param(name, marks=pytest.mark.skipif(not complete, reason=f"no {name} in BASISCLI_DATA"))


def test_names_are_those_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs/data.md").read_text()
    assert names() == ("digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100")
    for entry in ENTRIES.values():
        assert f"`{entry.name}`" in text
        assert entry.source in text
        assert entry.licence.split(";")[0] in text


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_entries_are_consistent(entry):
    checksums = [file.checksum for file in entry.files] + ([entry.archive[1]] if entry.archive else [])
    for checksum in checksums:
        assert re.fullmatch("md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}", checksum)
    assert len(set(checksums)) == len(checksums)
    assert all(address.endswith("/") for address in entry.addresses)
    pixels = int(np.prod(entry.shape))
    assert sum(file.size for file in entry.files) >= (entry.train + entry.test) * (pixels + 1)


def test_digits_are_bundled_whole():
    dataset = load("digits")
    images = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert dataset.train.images.shape == (1200, 8, 8, 1)
    assert dataset.test.images.shape == (597, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.max() == 16
    # The counts of the classes that the source states for its test part, and all images distinct.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797
    assert np.bincount(dataset.train.labels).min() >= 117
    entry = lookup("digits")
    assert all(is_official(file, locate(entry)[file.name]) for file in entry.files)


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    original, dataset = datasets.load_digits(), load("digits")
    np.testing.assert_array_equal(dataset.train.images[..., 0], original.images[:1200])
    np.testing.assert_array_equal(dataset.test.images[..., 0], original.images[1200:])
    np.testing.assert_array_equal(dataset.test.labels, original.target[1200:])


def test_digits_stay_small_and_attributed():
    home = Path(locate(lookup("digits"))["train-images-idx3-ubyte.gz"]).parent
    assert sum(path.stat().st_size for path in home.iterdir()) < 100_000
    text = (home / "LICENSE.txt").read_text()
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text


@pytest.mark.parametrize("name", [present(name) for name in names() if name != "digits"])
def test_real_data_sets_are_read(name):
    entry, dataset = lookup(name), load(name)
    assert dataset.train.images.shape == (entry.train, *entry.shape)
    assert dataset.test.images.shape == (entry.test, *entry.shape)
    assert dataset.classes == entry.classes
    assert np.bincount(dataset.train.labels).min() > 0


@pytest.mark.parametrize("name", [present("mnist")])
def test_mnist_has_its_pinned_checksums(name):
    entry = lookup(name)
    assert all(is_official(file, locate(entry)[file.name]) for file in entry.files)
    assert load(name).test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


def test_absent_data_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BASISCLI_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=r"^cifar100: train\.bin, test\.bin not in .*run `basiscli data fetch cifar100`"):
        load("cifar100")
