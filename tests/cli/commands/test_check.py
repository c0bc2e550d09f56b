"""`basiscli check`."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.command_line import call, done

OLDER = Path(__file__).parents[2] / "files/before-the-wings"


@pytest.fixture
def folder(networks, tmp_path) -> Path:
    """A folder with a file of each kind."""
    for k, path in enumerate(networks[:2]):
        shutil.copy(path, tmp_path / f"seed{k}.h5")
    done("match", networks[0], networks[1], "--out", tmp_path / "match.h5")
    done("correlate", networks[0], networks[1], "--out", tmp_path / "pair.h5")
    done("record", networks[0], "--samples", 200, "--out", tmp_path / "shown.h5")
    return tmp_path


def test_whole_files_of_every_kind(folder):
    records = done("check", folder).records
    assert {(Path(record["path"]).name, record["kind"]) for record in records} == {
        ("match.h5", "results"), ("pair.h5", "results"), ("seed0.h5", "network"), ("seed1.h5", "network"),
        ("shown.h5", "activations"),
    }  # fmt: skip
    assert all(record["whole"] and record["format"] == 2 and record["problem"] is None for record in records)


def test_damage_anywhere_is_found_and_the_others_are_checked_on(folder):
    content = bytearray((folder / "shown.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "shown.h5").write_bytes(content)
    (folder / "pair.h5").write_bytes(b"nothing")
    outcome = call("check", folder)
    assert outcome.code == 1
    problems = {Path(record["path"]).name: record["problem"] for record in outcome.records}
    assert "differ from their digest" in problems.pop("shown.h5") and problems.pop("pair.h5") == "no HDF5 file"
    assert set(problems.values()) == {None}
    assert outcome.stderr == f"basiscli: error: 2 of 5 files are not whole: {folder}/pair.h5 and 1 more\n"


def test_files_kept_after_an_epoch_and_of_diverged_networks_are_checked_too(folder):
    shutil.copy(folder / "seed0.h5", folder / "seed0-epoch1.h5")
    paths = [record["path"] for record in done("check", folder).records]
    assert str(folder / "seed0-epoch1.h5") in paths
    record = f'{{"path": "{folder}/seed1.h5", "status": "diverged"}}'
    assert [record["path"] for record in done("check", "-", stdin=record).records] == [f"{folder}/seed1.h5"]


def test_files_of_an_older_version_have_no_digests(tmp_path):
    older = Path(shutil.copytree(OLDER, tmp_path / "older"))
    outcome = done("check", older)
    assert all(record["whole"] and record["format"] == 1 for record in outcome.records)
    note = f"basiscli: {older}: holds files of an older version, which have no digests: damage may pass unnoticed\n"
    assert outcome.stderr == note


def test_a_file_of_another_program_is_not_vouched_for(tmp_path):
    import h5py

    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["layer"] = [[1.0, 2.0]]
    outcome = call("check", tmp_path / "mine.h5")
    assert outcome.code == 1 and "another program" in outcome.records[0]["problem"]
