from pathlib import Path

import numpy as np
import pytest

from basiscli.data import from_arrays, load
from basiscli.errors import BadInput

IMAGES = np.arange(5 * 6, dtype=np.uint8).reshape(5, 2, 3)
GOOD = {
    "train/images": IMAGES,
    "train/labels": np.array([0, 1, 1, 0, 3], np.int16),
    "test/images": IMAGES[:2],
    "test/labels": np.array([2, 0], np.uint8),
}


def test_arrays_become_a_data_set():
    dataset = from_arrays("mine", GOOD)
    assert dataset.name == "mine"
    assert dataset.classes == 4
    assert dataset.train.images.shape == (5, 2, 3, 1)
    assert dataset.train.images.dtype == np.uint8
    assert dataset.test.labels.dtype == np.int64
    assert dataset.test.labels.tolist() == [2, 0]


def test_classes_are_counted_over_both_splits():
    assert from_arrays("mine", GOOD | {"test/labels": np.array([4, 0])}).classes == 5


def test_floats_become_float32_and_channels_stay():
    images = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    dataset = from_arrays("mine", GOOD | {"train/images": images, "test/images": images[:2].astype(np.float16)})
    assert dataset.train.images.dtype == dataset.test.images.dtype == np.float32
    np.testing.assert_array_equal(dataset.train.images, images.astype(np.float32))


def test_nothing_is_copied_without_need():
    images = np.zeros((5, 2, 3, 1), np.float32)
    dataset = from_arrays("mine", GOOD | {"train/images": images, "test/images": images[:2]})
    assert np.shares_memory(dataset.train.images, images)


@pytest.mark.parametrize("key", sorted(GOOD))
def test_checksum_hears_of_every_array(key):
    changed = GOOD | {key: np.roll(GOOD[key], 1)}
    assert from_arrays("mine", changed).checksum != from_arrays("mine", GOOD).checksum


def test_checksum_is_of_the_content_alone():
    wide = GOOD | {"train/labels": GOOD["train/labels"].astype(np.uint64)}
    assert from_arrays("other", wide).checksum == from_arrays("mine", GOOD).checksum
    reshaped = GOOD | {key: GOOD[key].reshape(-1, 3, 2) for key in ("train/images", "test/images")}
    assert from_arrays("mine", reshaped).checksum != from_arrays("mine", GOOD).checksum


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/images": IMAGES[0]}, r"train/images has the shape \(2, 3\)"),
        ({"train/images": IMAGES[:0]}, r"train/images has the shape \(0, 2, 3\)"),
        ({"train/images": np.zeros((5, 0, 3), np.uint8)}, "train/images has the shape"),
        ({"train/images": IMAGES.astype(np.int64)}, "train/images is int64; convert it to uint8"),
        ({"train/images": IMAGES.astype(bool)}, "train/images is bool"),
        ({"train/images": IMAGES.astype(object)}, "train/images is object"),
        ({"test/images": IMAGES[:2].astype("U3")}, "test/images is <U3"),
        ({"train/images": np.where(IMAGES == 3, np.nan, IMAGES)}, "train/images holds 1 values that are NaN"),
        ({"train/images": IMAGES * 1e300}, "train/images holds 29 values that are NaN or infinite in float32"),
        ({"test/images": IMAGES[:2].astype(np.float32)}, "train/images are uint8, test/images float32"),
        ({"test/images": IMAGES[:2, :, :2]}, r"images of \(2, 3, 1\) in train but of \(2, 2, 1\) in test"),
        ({"train/labels": np.zeros(4, int)}, "train has 5 images but 4 labels"),
        ({"train/labels": np.zeros((5, 1), int)}, r"train/labels has the shape \(5, 1\)"),
        ({"train/labels": np.zeros(5)}, "train/labels is float64; labels are whole numbers"),
        ({"train/labels": np.zeros(5, bool)}, "train/labels is bool"),
        ({"train/labels": np.array(list("abcde"))}, "train/labels is <U1"),
        ({"train/labels": np.array([0, 1, 2, 3, -1])}, "train/labels runs from -1 to 3"),
        ({"train/labels": np.array([0, 1, 2, 3, 2**64 - 1], np.uint64)}, "train/labels runs from 0 to 18446744"),
        ({"train/labels": np.array([0, 1, 2, 3, 10**9])}, "labels up to 1,000,000,000"),
    ],
)
def test_bad_arrays_are_refused(change, message):
    with pytest.raises(BadInput, match=f"^mine: .*{message}"):
        from_arrays("mine", GOOD | change)


def test_missing_arrays_are_named():
    with pytest.raises(BadInput, match=r"^mine: test/images, test/labels missing"):
        from_arrays("mine", {key: GOOD[key] for key in ("train/images", "train/labels")})


@pytest.mark.parametrize("name", ["mnst", "pictures.png", ""])
def test_unknown_name_says_which_there_are(name):
    with pytest.raises(BadInput, match=r"no such data set; there are digits, mnist, .* or give the path of an \.npz"):
        load(name)


def test_example_of_the_documentation_is_a_data_set(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs/data.md").read_text()
    example = next(part for part in text.split("```python\n")[1:] if "np.savez" in part).split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    dataset = load("mine.npz")
    assert dataset.train.images.shape == (800, 16, 16, 1)
    assert dataset.classes == 2


def coloured(shape: tuple[int, ...], **options):
    images = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    arrays = GOOD | {"train/images": images, "test/images": images[:2]}
    return images, from_arrays("mine", arrays, **options)


@pytest.mark.parametrize(
    ("shape", "first", "note"),
    [
        ((5, 3, 16, 16), True, "(N, C, H, W)"),
        ((5, 1, 8, 9), True, "(N, C, H, W)"),
        ((5, 16, 16, 3), False, None),
        ((5, 8, 9, 1), False, None),
        ((5, 4, 16, 16), True, "(N, C, H, W)"),
        ((5, 16, 16, 4), False, None),
        ((5, 3, 16, 3), False, "no shape tells"),
        ((5, 8, 8, 8), False, "no shape tells"),
    ],
)
def test_channels_are_told_by_the_shape(caplog, shape, first, note):
    images, dataset = coloured(shape)
    np.testing.assert_array_equal(dataset.train.images, np.moveaxis(images, 1, -1) if first else images)
    assert [note in record.message for record in caplog.records] == [True] * bool(note)


def test_channels_as_told(caplog):
    images, dataset = coloured((5, 8, 8, 8), channels="first")
    np.testing.assert_array_equal(dataset.train.images, np.moveaxis(images, 1, -1))
    assert dataset.channels == "first" and not caplog.records
    assert coloured((5, 3, 16, 16), channels="last")[1].train.images.shape == (5, 3, 16, 16)
    _, plain = coloured((5, 8, 8))
    assert plain.train.images.shape == (5, 8, 8, 1) and not caplog.records
