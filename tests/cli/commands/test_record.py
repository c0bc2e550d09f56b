"""`basiscli record` and `basiscli show` through the real command line."""

import h5py
import numpy as np
import pytest


def test_record_writes_what_was_asked_for(basiscli, networks, tmp_path):
    out = tmp_path / "a.h5"
    done = basiscli("record", networks[0], "--layer", "hidden2", "--tap", "pre", "--samples", 20, "--out", out)
    assert done.records == [
        {
            "path": str(out),
            "network": str(networks[0]),
            "split": "test",
            "tap": "pre",
            "samples": 20,
            "layers": "hidden2",
        }
    ]
    with h5py.File(out) as file:
        assert list(file["activations/test"]) == ["hidden2"]
        assert file["activations/test/hidden2"].shape == (20, 24)
        assert (np.array(file["activations/test/hidden2"]) < 0).any()


def test_record_names_files_after_what_they_hold(basiscli, networks, tmp_path):
    for path in networks[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    paths = [tmp_path / path.name for path in networks[:2]]
    done = basiscli("record", "-", "--split", "test-shifts", stdin="\n".join(map(str, paths)))
    assert [record["path"] for record in done.records] == [
        str(p.parent / f"activations/{p.stem}.test-shifts-post.h5") for p in paths
    ]
    correlated = basiscli("correlate", "-", stdin=done.stdout)
    assert correlated.code == 0 and correlated.records[0]["samples"] == 5373
    basiscli("record", *paths, "--split", "test-shifts").refused("exists", "--force")


def test_what_cannot_be_recorded_is_refused(basiscli, networks, tmp_path):
    (tmp_path / "text.h5").write_text("text")
    basiscli("record", tmp_path / "text.h5").refused("text.h5: no HDF5 file")
    basiscli("record", tmp_path / "none.h5").refused("none.h5: no such file")
    basiscli("record", networks[0], "--layer", "x*").refused("seed0.h5: no layer matches 'x*'; it has hidden1, hidden2")
    basiscli("record", *networks, "--out", tmp_path / "a.h5").refused("--out names one file", code=2)
    basiscli("record", networks[0], "--dataset", "mnist.npz").refused("mnist.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["text.h5"]


def test_show_says_what_a_network_is(basiscli, networks, tmp_path):
    [record] = basiscli("show", networks[0]).records
    assert (record["kind"], record["seed"], record["status"]) == ("network", 0, "done")
    assert record["architecture"]["hidden"] == [24, 24] and record["dataset"]["name"] == "digits"
    assert len(record["history"]["test_accuracy"]) == 1
    assert record["arrays"]["weights/hidden1/w"] == "float32 (64, 24)"
    screen = basiscli("show", networks[0], "--format", "table").stdout
    for words in ("seed0.h5: network", "hidden=24,24", "seed     0, done at epoch 1", "digits", "test accuracy 0."):
        assert words in screen
    assert len(screen.splitlines()) < 25


def test_show_says_what_other_files_are(basiscli, networks, tmp_path):
    basiscli("record", networks[0], "--out", tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["layer/one"] = np.ones((5, 2), np.float16)
    records = basiscli("show", tmp_path / "a.h5", tmp_path / "b.h5").records
    assert [record["kind"] for record in records] == ["activations", "arrays"]
    assert records[1]["arrays"] == {"layer/one": "float16 (5, 2)"}
    assert str(networks[0]) in basiscli("show", tmp_path / "a.h5", "--format", "table").stdout


@pytest.mark.parametrize("style", ["table", "json"])
def test_show_refuses_what_is_no_file(basiscli, tmp_path, style):
    basiscli("show", tmp_path / "none.h5", "--format", style).refused("none.h5: no such file")


def test_recorded_files_do_not_mix_with_networks(basiscli, networks, tmp_path):
    folder = tmp_path / "networks"
    folder.mkdir()
    for path in networks[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    assert basiscli("record", folder, "--layer", "hidden1", "--samples", 20).code == 0
    assert sorted(path.name for path in folder.glob("*.h5")) == [path.name for path in networks[:2]]
    assert basiscli("correlate", folder).code == 0
    assert basiscli("correlate", folder / "activations").code == 0
