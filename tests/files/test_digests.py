"""Digests: which changes they find, how little of a file they read, and how files without them are read."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.files import activations, digests, hdf5, probe
from basiscli.files.networks import load
from basiscli.files.writer import save_arrays
from tests.helpers.damage import reseal

OLDER = Path(__file__).parent / "before-the-wings/seed1.h5"


def test_hdf5_ignores_the_digests_and_drops_them_with_a_change(copy):
    with h5py.File(copy) as file:
        assert json.loads(file.attrs["architecture"])["model"] == "mlp"
    assert copy.read_bytes()[-56:].startswith(digests.MAGIC)
    with h5py.File(copy, "a") as file:
        file.attrs["note"] = 1
    assert digests.MAGIC not in copy.read_bytes()
    with pytest.raises(BadInput, match=r"copy.h5: a file of basiscli that was cut off or changed by another program"):
        load(copy)


def _mean(file):
    dataset = json.loads(file.attrs["dataset"])
    dataset["mean"][0] += 1
    file.attrs["dataset"] = np.bytes_(json.dumps(dataset).encode())


def _without(*names):
    def change(file):
        for name in names:
            del file.attrs[name]

    return change


@pytest.mark.parametrize(
    "change",
    [
        _mean, _without("format"), _without("basiscli"), _without("format", "basiscli"), _without("kind"),
        lambda file: file.attrs.modify("format", 1), lambda file: h5py.h5a.rename(file.id, b"seed", b"seee"),
        lambda file: file.move("weights/hidden1/b", "weights/hidden1/c"),
        lambda file: file["weights/hidden1/w"].id.write_direct_chunk((0, 0), bytes(64 * 24 * 4)),
    ],
)  # fmt: skip
def test_no_change_by_another_program_passes(copy, change):
    with h5py.File(copy, "a") as file:
        change(file)
    for read in (load, lambda path: list(activations.open_source(str(path)).layers)):
        with pytest.raises(BadInput, match=r"copy.h5: a file of basiscli that was cut off or changed"):
            read(copy)


def test_a_flipped_bit_of_a_value_in_an_attribute_is_found(copy):
    content = bytearray(copy.read_bytes())
    content[content.find(b'"mean": [') + 9] ^= 1
    copy.write_bytes(content)
    with pytest.raises(BadInput, match=r"copy.h5: the file is damaged \(bytes \d+ to \d+ differ from their digest\)"):
        load(copy)


def test_only_what_is_read_is_compared(tmp_path):
    """Damage to one layer does not keep anybody from another one."""
    arrays = dict(zip("abc", np.random.default_rng(0).random((3, 300, 1000)), strict=True))
    save_arrays(tmp_path / "a.h5", arrays, {})
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[content.find(arrays["b"][200].tobytes())] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with hdf5.reading(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file.array("a"), arrays["a"])
        for start in (250, 20, 130, 0):
            np.testing.assert_array_equal(file.part("/c", start, start + 50), arrays["c"][start : start + 50])
        with pytest.raises(BadInput, match=r"a.h5: /b is damaged \(bytes \d+ to \d+ differ from their digest\)"):
            file.array("b")
        assert len(file.differences()) == 1


def test_files_that_are_refused_are_closed(copy):
    """libhdf5 keeps files open whose reading failed, and the process crashes in the end."""
    content = copy.read_bytes()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for place in (9, content.find(b'"mean": [') + 9, -60):
        changed = bytearray(content)
        changed[place] ^= 1
        copy.write_bytes(changed)
        for _ in range(3):
            with pytest.raises(BadInput, match=r"copy.h5: .*is damaged"):
                load(copy)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_after_a_difference_nothing_of_the_file_counts(copy, monkeypatch):
    """libhdf5 keeps what it has read: zeros in the place of a block that could not be read."""
    with hdf5.reading(copy) as file:
        weights = file.array("weights/hidden1/b")

        def fails(*arguments):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "preadv", fails)
        for name in ("state", "optimizer", "history", "activations"):
            with pytest.raises(BadInput, match=r"copy.h5: .*is damaged \(Input/output error\)"):
                file.arrays(name)
                file.array("weights/hidden2/w")
        monkeypatch.undo()
        with pytest.raises(BadInput, match=r"Input/output error"):
            file.array("weights/hidden1/b")
    assert weights.any()


def test_digests_themselves_are_compared(copy):
    content = copy.read_bytes()
    for place in (-1, -40, -60):
        changed = bytearray(content)
        changed[place] ^= 4
        copy.write_bytes(changed)
        with pytest.raises(BadInput, match=r"copy.h5: is damaged \(its digests are damaged\)"):
            load(copy)


def test_a_text_of_variable_length_is_refused_in_a_file_with_digests(copy):
    with h5py.File(copy, "a") as file:
        file.attrs["command"] = "basiscli train"
    reseal(copy)
    with pytest.raises(BadInput, match=r"copy.h5: the attribute command is damaged \(of variable length"):
        load(copy)


def test_attributes_longer_than_64_kib_survive(tmp_path):
    files = [f"runs/ein-längerer-name-{k}.h5" for k in range(5000)]
    save_arrays(tmp_path / "a.h5", {}, {"analysis": "correlate", "files": files})
    with hdf5.reading(tmp_path / "a.h5") as file:
        assert json.loads(file.attribute("files")) == files
    with h5py.File(tmp_path / "a.h5") as file:
        assert not any(file.attrs.get_id(name).dtype.hasobject for name in file.attrs)


def test_an_older_file_that_hangs_hdf5_is_refused_in_time(tmp_path, monkeypatch):
    content = bytearray(OLDER.read_bytes())
    heap = content.find(b"GCOL")  # the texts of all attributes: zeros there let libhdf5 loop for ever
    content[heap + 16 : heap + 4096] = bytes(4080)
    (tmp_path / "a.h5").write_bytes(content)
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    with pytest.raises(BadInput, match=r"a.h5: is damaged \(libhdf5 does not come to an end within 0.5 s\)"):
        load(tmp_path / "a.h5")


def test_a_look_that_crashes_is_told_and_one_that_fails_is_left_to_the_reader():
    assert probe.trouble(os.abort) == "libhdf5 crashes on it"
    assert probe.trouble(lambda: 1 / 0) is None


def test_nothing_but_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(BadInput, match=r"pipe.h5: is no regular file"):
        load(tmp_path / "pipe.h5")


def test_reads_that_give_less_than_they_were_asked_for_change_nothing(tmp_path, monkeypatch):
    """A signal or a network file system may cut a read short, while a file is sealed or read."""
    whole, preadv = np.arange(50_000.0), os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, parts, place: preadv(file, [parts[0][: len(parts[0]) // 2 + 1]], place)
    )
    save_arrays(tmp_path / "a.h5", {"x": whole}, {})
    monkeypatch.undo()
    for short in (False, True):
        if short:
            monkeypatch.setattr(os, "preadv", lambda file, parts, place: preadv(file, [parts[0][:1000]], place))
        with hdf5.reading(tmp_path / "a.h5") as file:
            np.testing.assert_array_equal(file.array("x"), whole)
