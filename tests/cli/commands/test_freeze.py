"""`basiscli train --donor` and `basiscli freeze` through their command lines."""

from pathlib import Path

import numpy as np
import pytest

from basiscli.files.networks import load_network
from tests.helpers.command_line import Outcome, call, done

SMALL = ("--hidden", "24,24", "--epochs", 1, "--batch-size", 256)
SWEEP = ("freeze", "--hidden", "10,10,10", "--epochs", 1, "--batch-size", 512, "--draws", 3)


def assert_same_arrays(path: Path, donor: Path, names: set[str]) -> None:
    """Of two networks exactly these arrays are the same."""
    mine, theirs = (load_network(p) for p in (path, donor))
    mine, theirs = mine.weights | mine.state, theirs.weights | theirs.state
    assert {name for name, values in mine.items() if (values == theirs[name]).all()} == names


def test_a_prefix_of_a_donor_is_copied_and_frozen(networks, tmp_path):
    prefix = ("--donor", networks[2], "--freeze-prefix", 1)
    done("train", *SMALL, *prefix, "--seeds", 2, "--out", tmp_path)
    for seed in range(2):
        assert_same_arrays(tmp_path / f"seed{seed}.h5", networks[2], {"hidden1/w", "hidden1/b"})
    training = load_network(tmp_path / "seed0.h5").training
    assert (training["prefix"], training["start_only"], len(training["donor"])) == (1, False, 64)


def test_start_only_trains_what_it_copied(networks, tmp_path):
    done("train", *SMALL, "--donor", networks[2], "--freeze-prefix", 1, "--start-only", "--out", tmp_path)
    assert_same_arrays(tmp_path / "seed0.h5", networks[2], set())


def test_batch_statistics_are_the_donors(tmp_path):
    model = ("--hidden", "12,12", "--norm", "batch", "--batch-size", 256)
    done("train", *model, "--epochs", 2, "--seeds", "8-8", "--out", tmp_path / "donor")
    donor = tmp_path / "donor/seed8.h5"
    done("train", *model, "--epochs", 2, "--donor", donor, "--freeze-prefix", 1, "--out", tmp_path)
    prefix = {f"hidden1/{name}" for name in ("w", "b")}
    prefix |= {f"hidden1/norm/{name}" for name in ("scale", "shift", "mean", "variance")}
    assert_same_arrays(tmp_path / "seed0.h5", donor, prefix)


def test_resume_with_a_prefix_ends_in_the_same_weights_and_checks_the_donor(networks, tmp_path):
    command = ("train", *SMALL, "--donor", networks[2], "--freeze-prefix", 1, "--out", tmp_path, "--resume")
    done(*command)
    before = (tmp_path / "seed0.h5").read_bytes()
    done(*command, "--seeds", 2)
    assert (tmp_path / "seed0.h5").read_bytes() == before
    other = call("train", *SMALL, "--donor", networks[1], "--freeze-prefix", 1, "--out", tmp_path, "--resume")
    other.refused("seed0.h5: was trained with another training (donor ")


def test_no_epochs_write_the_networks_as_they_start(tmp_path):
    record = done("train", *SMALL, "--epochs", 0, "--seeds", 1, "--out", tmp_path).records[0]
    assert (record["status"], record["test_accuracy"]) == ("done", None)
    assert not load_network(tmp_path / "seed0.h5").weights["hidden1/b"].any()
    done("train", *SMALL, "--donor", record["path"], "--freeze-prefix", 2, "--out", tmp_path / "a")


def test_what_cannot_be_a_donor_is_refused(networks, tmp_path):
    def refused(*words: str, donor=networks[0], layers=1, model=SMALL) -> None:
        out = ("--out", tmp_path / "a")
        call("train", *model, "--donor", donor, "--freeze-prefix", layers, *out).refused(*words)

    refused("a prefix of 3 layers: choose 1 to 2 of hidden1, hidden2", layers=3)
    refused("seed0.h5: a donor of another architecture (hidden [24, 24], not [24])", model=("--hidden", "24"))
    refused("no.h5: no such file", donor=tmp_path / "no.h5")
    rng = np.random.default_rng(0)
    arrays = {f"{split}/images": rng.random((20, 8, 8, 1)).astype("f") for split in ("train", "test")}
    arrays |= {f"{split}/labels": np.arange(20) % 10 for split in ("train", "test")}
    np.savez(tmp_path / "other.npz", **arrays)
    refused("trained on digits, which is not this", model=(*SMALL, "--dataset", tmp_path / "other.npz"))
    assert call("train", *SMALL, "--activation", "linear", "--lr", 1e9, "--out", tmp_path / "bad").code == 1
    linear = (*SMALL, "--activation", "linear")
    refused("seed0.h5: a donor that diverged", donor=tmp_path / "bad/seed0.h5", model=linear)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("train", "--freeze-prefix", 0), "--freeze-prefix"),
        (("train", "--freeze-prefix", 1), "give both"),
        (("train", "--donor", "a.h5"), "give both"),
        (("train", "--start-only"), "--start-only is about"),
        (("freeze", "--prefixes", "0;1"), "'0;1': write numbers of layers"),
        (("freeze", "--donors", "none"), "'none' is none of trained, initial, all"),
        (("freeze", "--seeds", 1), "two seeds or more"),
        (("freeze", "--seeds", 3, "--donor-seed", 2), "--donor-seed 2 is one of --seeds"),
        (("freeze", "--depth", 2, "--hidden", 3), "leave out --width and --depth"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, arguments, words):
    call(*arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()


def test_a_prefix_that_leaves_no_layer_is_refused(tmp_path):
    call(*SWEEP, "--prefixes", "0,3", "--out", tmp_path / "a").refused("a prefix of 3 layers leaves none of hidden1")
    assert not (tmp_path / "a").exists()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, Outcome]:
    """The sweep of three seeds with both donors, drawn."""
    folder = tmp_path_factory.mktemp("sweep")
    return folder, done(*SWEEP, "--seeds", 3, "--out", folder / "runs", "--plot", folder / "frozen.png")


def test_a_record_for_each_condition_and_layer_after_it(sweep):
    _, outcome = sweep
    places = [(record["donor"], record["prefix"], record["layer"]) for record in outcome.records]
    assert places == [
        ("free", 0, "hidden1"), ("free", 0, "hidden2"), ("free", 0, "hidden3"),
        ("trained", 1, "hidden2"), ("trained", 1, "hidden3"), ("trained", 2, "hidden3"),
        ("initial", 1, "hidden2"), ("initial", 1, "hidden3"), ("initial", 2, "hidden3"),
    ]  # fmt: skip
    free, frozen = outcome.records[2], outcome.records[5]
    assert free["rise"] is None and free["excess_rise_low"] is None
    assert frozen["rise"] == pytest.approx(frozen["matched_held_out"] - free["matched_held_out"])
    excess = "rotated_held_out_excess"
    assert frozen["excess_rise"] == pytest.approx(frozen[excess] - free[excess])
    assert frozen["share_rise"] == pytest.approx(frozen["share"] - free["share"])
    assert (free["donor_seed"], frozen["donor_seed"]) == (None, 100)
    assert (frozen["epochs"], frozen["optimizer"]) == (1, "sgd")
    assert (frozen["correlated_on"], frozen["correlated_images"]) == ("test-shifts", 9 * 597)
    for record in outcome.records[3:]:
        for name in ("rise", "excess_rise", "standardised_excess_rise", "ceiling_rise", "share_rise"):
            assert record[f"{name}_low"] <= record[name] <= record[f"{name}_high"] and record[f"{name}_error"] > 0
        assert (record["networks"], record["units"]) == (3, 10) and 0 <= record["dead"] <= 10


def test_the_networks_of_a_sweep_are_what_train_makes(sweep, tmp_path):
    folder, _ = sweep
    names = ["donor-initial", "donor-trained", "free", "initial-1", "initial-2", "trained-1", "trained-2"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == names
    donor = folder / "runs/donor-trained/seed100.h5"
    model = SWEEP[1:-2]
    done("train", *model, "--donor", donor, "--freeze-prefix", 2, "--seeds", "1", "--out", tmp_path)
    mine, theirs = (load_network(path) for path in (tmp_path / "seed0.h5", folder / "runs/trained-2/seed0.h5"))
    assert mine.training == theirs.training
    for path, values in mine.weights.items():
        np.testing.assert_array_equal(values, theirs.weights[path], err_msg=path)
    done("train", *model, "--epochs", 0, "--seeds", "100-100", "--out", tmp_path)
    start = load_network(folder / "runs/donor-initial/seed100.h5")
    np.testing.assert_array_equal(
        start.weights["hidden1/w"], load_network(tmp_path / "seed100.h5").weights["hidden1/w"]
    )


def test_donors_share_a_folder_and_its_free_networks(sweep):
    folder, outcome = sweep
    options = ("--donor-seed", 101, "--donors", "trained", "--prefixes", "0,1", "--seeds", 3)
    again = done(*[word for word in SWEEP if word], *options, "--out", folder / "more")
    assert {path.name for path in (folder / "more").iterdir()} == {"donor-trained", "free", "trained101-1"}
    assert again.records[0] == outcome.records[0] and not any(record["fed_by_skip"] for record in again.records)


def test_the_scores_are_those_of_correlate(sweep):
    folder, outcome = sweep
    files = sorted((folder / "runs/trained-1").iterdir())
    options = ("--split", "test-shifts", "--null", "rotated", "--draws", 3, "--intervals", "--layer", "hidden3")
    mean = done("correlate", *files, *options).records[-1]
    record = outcome.records[4]
    assert mean["layer"] == record["layer"] == "hidden3"
    for name in ("matched_held_out", "matched_held_out_low", "rotated_held_out_excess", "aligned_held_out_high"):
        assert record[name] == mean[name], name


def test_what_is_there_is_kept(sweep):
    folder, outcome = sweep
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")}
    again = done(*SWEEP, "--seeds", 3, "--out", folder / "runs")
    assert again.records == outcome.records and "epoch" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")} == before
    other = call(*SWEEP, "--seeds", 3, "--lr", 0.2, "--out", folder / "runs")
    assert other.code == 1 and not other.stdout
    assert "seed0.h5: was trained with another training (lr 0.05, not 0.2)" in other.stderr.splitlines()[-1]


def test_a_table_holds_intervals_in_80_columns(sweep):
    folder, _ = sweep
    table = done(*SWEEP, "--seeds", 3, "--out", folder / "runs", "--format", "table").stdout
    assert "trained 2" in table and max(map(len, table.splitlines())) <= 80
    assert (folder / "frozen.png").read_bytes().startswith(b"\x89PNG")
