"""The files: round trips, atomic writing, and refusal of whatever should not be read."""

import json
import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from basiscli.errors import BadInput
from basiscli.files import activations, hdf5, writer
from basiscli.files.networks import load, load_network, save_network


def test_a_network_survives_its_file(networks, tmp_path):
    first = load_network(networks[0])
    assert first.origin == {}
    first.origin = {"made": "rotate", "of": [str(networks[0])]}
    save_network(tmp_path / "copy.h5", first)
    second = load_network(tmp_path / "copy.h5")
    assert (first.architecture, first.training, first.dataset, first.position) == (
        second.architecture, second.training, second.dataset, second.position,
    )  # fmt: skip
    assert (first.seed, first.status, first.command) == (second.seed, second.status, second.command)
    assert first.origin == second.origin
    for part in ("weights", "state", "history"):
        one, two = getattr(first, part), getattr(second, part)
        assert list(one) == list(two)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_anybody_can_read_it_with_h5py(networks):
    with h5py.File(networks[0]) as file:
        assert file["weights/hidden1/w"].shape == (64, 24)
        assert json.loads(file.attrs["architecture"])["hidden"] == [24, 24]
        assert file["activations/test/hidden2"].shape == (597, 24)


def test_nothing_is_left_of_a_failed_write(tmp_path):
    with pytest.raises(ZeroDivisionError), writer.writing(tmp_path / "a.h5") as file:
        file.array("x", np.ones(10))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_failed_overwrite_keeps_the_old_file(tmp_path):
    writer.save_arrays(tmp_path / "a.h5", {"x": np.ones(3)}, {})
    with pytest.raises(ZeroDivisionError), writer.writing(tmp_path / "a.h5", force=True) as file:
        file.array("x", np.zeros(3))
        raise ZeroDivisionError
    with hdf5.reading(tmp_path / "a.h5") as file:
        assert file.array("x").tolist() == [1, 1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_what_a_killed_writer_left_is_overwritten(tmp_path):
    (tmp_path / ".a.h5.0123abcd.partial").write_bytes(b"half of a file")
    writer.save_arrays(tmp_path / "a.h5", {"x": np.ones(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    # A limit on the size of files fails a write as a full disk does, with another reason.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(BadInput, match=r"a.h5: cannot be written \(File too large\)"):
            writer.save_arrays(tmp_path / "a.h5", {"x": np.random.default_rng(0).random(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["there.h5", "folder", "none/a.h5"])
def test_what_cannot_be_created_is_refused(tmp_path, place):
    (tmp_path / "there.h5").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match=r"exists; `force`|no such folder"):
        writer.save_arrays(tmp_path / place, {}, {})


def write_strange(path: Path) -> None:
    """A file with everything that must not be read, beside one harmless layer."""
    with h5py.File(path, "w") as file:
        file["good"] = np.ones((5, 2), "f")
        file["external"] = h5py.ExternalLink("/etc/hostname.h5", "/x")
        file["soft"] = h5py.SoftLink("/good")
        layout = h5py.VirtualLayout((5, 2), "f")
        layout[:] = h5py.VirtualSource("other.h5", "x", (5, 2))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (5, 2), "f", external=[("/etc/hostname", 0, 40)])
        file["text"] = np.array([[b"a", b"b"]])
        file.create_dataset("objects", data=["a", "bc"], dtype=h5py.string_dtype())
        file.create_dataset("unwritten", (10**9, 1000), "f", chunks=(1000, 1000))


@pytest.mark.parametrize(
    "name, reason",
    [
        ("external", "link"), ("soft", "link"), ("virtual", "other files"), ("outside", "other files"),
        ("text", "not numbers"), ("objects", "not numbers"), ("unwritten", "no data"), ("missing", "no array"),
    ],
)  # fmt: skip
def test_what_must_not_be_read_is_refused(tmp_path, name, reason):
    path = tmp_path / "strange.h5"
    write_strange(path)
    with hdf5.reading(path) as file, pytest.raises(BadInput, match=rf"strange.h5: .*{name}.*{reason}|{reason} {name}"):
        file.array(name)


def test_of_a_strange_file_only_what_lies_in_it_is_read(tmp_path):
    write_strange(tmp_path / "strange.h5")
    path = str(tmp_path / "strange.h5")
    assert list(activations.open_source(path).layers) == ["good", "soft"]
    for name in ("external", "virtual", "outside", "text", "objects", "unwritten"):
        with pytest.raises(BadInput, match=rf"strange.h5: {name} "):
            activations.open_source(path, layers=(name,))


def test_a_group_that_contains_itself_is_walked_once(tmp_path):
    with h5py.File(tmp_path / "loop.h5", "w") as file:
        group = file.create_group("a")
        group["x"] = np.ones((3, 2), "f")
        group["again"], group["root"] = group, file["/"]
    with hdf5.reading(tmp_path / "loop.h5") as file:
        assert list(file.datasets()) == ["a/x"]


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "no HDF5 file"),
        (lambda path: path.write_text("not a file of ours"), "no HDF5 file"),
    ],
)
def test_a_path_that_is_no_file_is_refused(tmp_path, make, reason):
    make(tmp_path / "a.h5")
    with pytest.raises(BadInput, match=f"a.h5: {reason}"):
        hdf5.open_reader(tmp_path / "a.h5")


def test_a_truncated_file_is_refused(networks, tmp_path):
    content = networks[0].read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"a.h5: cannot be read \(truncated file"):
        load_network(tmp_path / "a.h5")


def test_a_newer_format_is_refused(networks, tmp_path):
    (tmp_path / "a.h5").write_bytes(networks[0].read_bytes())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["format"] = hdf5.FORMAT + 1
    with pytest.raises(BadInput, match=r"a.h5: has format 3, this version reads up to 2; upgrade"):
        load_network(tmp_path / "a.h5")


def test_a_changed_byte_is_noticed(networks, tmp_path):
    content = bytearray(networks[0].read_bytes())
    weights = load_network(networks[0]).weights["hidden1/w"].tobytes()
    place = content.find(weights[:64])
    assert place > 0, "weights are stored as they are"
    content[place + 10] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(BadInput, match=r"a.h5: is damaged \(bytes 0 to 65536 differ from their digest\)"):
        load_network(tmp_path / "a.h5")


def test_weights_that_do_not_fit_the_architecture_are_refused(networks, tmp_path):
    network = load_network(networks[0])
    network.weights["hidden1/w"] = network.weights["hidden1/w"][:, :5]
    save_network(tmp_path / "a.h5", network)
    with pytest.raises(BadInput, match=r"a.h5: hidden1/w is float32 \(64, 5\), not float32 \(64, 24\)"):
        load(tmp_path / "a.h5")
    del network.weights["hidden1/w"]
    save_network(tmp_path / "b.h5", network)
    with pytest.raises(BadInput, match=r"b.h5: no weight hidden1/w"):
        load(tmp_path / "b.h5")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(networks, tmp_path, data):
    """Whatever bytes are changed, reading gives the network, or BadInput: no other exception, no crash."""
    content = bytearray(networks[1].read_bytes())
    # The first two kilobytes hold the superblock and the root group, where damage hurts most.
    limit = data.draw(st.sampled_from([2048, len(content)]))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, limit - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.h5"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 1000]))])
    try:
        load(path)
        source = activations.open_source(str(path))
        list(source.chunks(list(source.layers), 100))
    except BadInput as error:
        assert "damaged.h5" in str(error)
        assert "\n" not in str(error)
