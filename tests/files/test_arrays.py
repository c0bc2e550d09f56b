"""Files of other programs: what is a layer, how it is read, and what is said of it."""

import time

import h5py
import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.files import activations, arrays


def read(path, **options):
    """All layers of a file, and its source."""
    source = activations.open_source(str(path), **options)
    return {name: np.concatenate([chunk[name] for chunk in source.chunks([name], 7)]) for name in source.layers}, source


def write(path, tracked=False, **content):
    with h5py.File(path, "w", track_order=tracked) as file:
        for name, values in content.items():
            file[name.replace("__", ".")] = values
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((20, 5, 5, 3)).astype("f")


@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_channels_first_is_told_by_square_positions(tmp_path, images, suffix):
    first = np.moveaxis(images, -1, 1)
    path = tmp_path / f"first.{suffix}"
    np.savez(path, conv=first) if suffix == "npz" else write(path, conv=first)
    found, source = read(path)
    assert source.layers == {"conv": 3}
    np.testing.assert_array_equal(found["conv"], images)
    (note,) = source.notes
    assert note == f"{path}: read as (samples, channels, ...), channels first: conv"


def test_channels_last_needs_no_note(tmp_path, images):
    found, source = read(write(tmp_path / "last.h5", conv=images))
    np.testing.assert_array_equal(found["conv"], images)
    assert source.notes == ()


def test_channels_as_told(tmp_path, images):
    _, source = read(write(tmp_path / "a.h5", conv=images, dense=images[:, 0, 0]), channels="first")
    assert source.layers == {"conv": 5, "dense": 3} and source.notes == ()


def test_what_a_shape_leaves_open_the_other_layers_tell(tmp_path):
    rng = np.random.default_rng(0)
    _, source = read(
        write(tmp_path / "a.h5", a=rng.random((4, 16, 8, 8)), b=rng.random((4, 8, 8, 8)), c=rng.random((4, 9)))
    )
    assert source.layers == {"a": 16, "b": 8, "c": 9}
    assert "channels first: a, b" in source.notes[0]
    _, alone = read(write(tmp_path / "b.h5", b=rng.random((4, 8, 8, 8))))
    assert "channels last: b; shapes do not tell" in alone.notes[0]


def test_a_stray_array_costs_a_note_only(tmp_path):
    path = write(
        tmp_path / "a.h5",
        good=np.ones((4, 2)),
        words=np.array(["a", "b"], "S1"),
        empty=np.empty((0, 3)),
        single=np.ones(4),
    )
    with h5py.File(path, "a") as file:
        file["linked"] = h5py.SoftLink("/good")
        file["broken"] = h5py.SoftLink("/nowhere")
        file["other"] = h5py.ExternalLink("b.h5", "/x")
        file.create_dataset("references", (2, 2), h5py.ref_dtype)
    found, source = read(path)
    assert set(found) == {"good", "linked"}
    (note,) = source.notes
    for words in ("broken cannot be read", "which is not there", "references holds object", "(0, 3)", "and 1 more"):
        assert words in note
    for name in ("other", "words", "broken"):
        with pytest.raises(BadInput, match=f"a.h5: {name} "):
            read(path, layers=(name,))


def test_layers_come_in_the_order_of_writing_or_in_the_natural_one(tmp_path):
    layers = {f"layers__{k}": np.ones((3, 2)) for k in (2, 10, 1)}
    assert list(read(write(tmp_path / "a.h5", tracked=True, **layers))[0]) == ["layers.2", "layers.10", "layers.1"]
    assert list(read(write(tmp_path / "b.h5", **layers))[0]) == ["layers.1", "layers.2", "layers.10"]


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.int64).reshape(3, 2))
    found, _ = read(tmp_path / "a.npy")
    assert found["a"].dtype == np.float64 and found["a"].tolist() == [[0, 1], [2, 3], [4, 5]]
    np.savez(tmp_path / "b.npz", x=np.array([{}]), y=np.ones((2, 2), np.float16))
    found, source = read(tmp_path / "b.npz")
    assert list(found) == ["y"] and found["y"].dtype == np.float32 and "x holds object" in source.notes[0]
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(BadInput, match=r"c.npz: cannot be read"):
        read(tmp_path / "c.npz")


@pytest.mark.parametrize("suffix", sorted(arrays.ELSEWHERE))
def test_other_formats_are_told_what_to_do(tmp_path, suffix):
    with pytest.raises(BadInput, match=r"numpy\.savez"):
        activations.open_source(str(tmp_path / f"a{suffix}"))


def test_a_foreign_attribute_named_format_is_not_ours(tmp_path):
    path = write(tmp_path / "a.h5", x=np.ones((3, 2)))
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "NWB"
    assert read(path)[1].layers == {"x": 2}


@pytest.mark.parametrize(
    ("other", "words"), [([2, 0, 1], "the samples of .*a.h5 in another order"), ([0, 1, 5], "other samples than")]
)
def test_ids_tell_the_order_of_the_samples(tmp_path, other, words):
    x = np.random.default_rng(0).random((3, 2))
    paths = [
        str(write(tmp_path / name, x=x, ids=np.array(ids))) for name, ids in (("a.h5", [0, 1, 2]), ("b.h5", other))
    ]
    with pytest.raises(BadInput, match=words):
        activations.open_all(paths)
    assert len(activations.open_all([paths[0], paths[0]])) == 2
    with pytest.raises(BadInput, match="has no array y"):
        activations.open_all(paths, ids="y")


def test_transposed_arrays_and_unwritten_chunks_are_noticed(tmp_path):
    path = write(tmp_path / "a.h5", wide=np.random.default_rng(0).random((32, 2000)))
    with h5py.File(path, "a") as file:
        grown = file.create_dataset("grown", (100, 2), "f4", chunks=(10, 2), maxshape=(None, 2))
        grown[:50] = 1
    notes = " ".join(read(path)[1].notes)
    assert "wide has 32 samples of 2,000 units: is it transposed?" in notes
    assert "grown has 5 of 10 chunks that nobody wrote; they read as 0.0" in notes


@pytest.mark.parametrize("chunks", [(20000, 16), (20000, 1)])
def test_a_long_chunk_is_unpacked_once(tmp_path, chunks, monkeypatch):
    values = np.random.default_rng(0).random((20000, 16)).astype("f")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=chunks, compression="gzip", compression_opts=1)
    source = activations.open_source(str(tmp_path / "a.h5"))
    start = time.process_time()
    whole = np.concatenate([chunk["x"] for chunk in source.chunks(["x"], 100)])
    many = time.process_time() - start
    np.testing.assert_array_equal(whole, values)
    source = activations.open_source(str(tmp_path / "a.h5"))
    start = time.process_time()
    list(source.chunks(["x"], 20000))
    assert many < 10 * (time.process_time() - start) + 0.05  # 200 times as long where each read unpacks the chunk
