"""`basiscli evolve` through its command line."""

import shutil
from pathlib import Path

import pytest

from basiscli.experiments import evolution, training
from tests.helpers.command_line import Outcome, call, done

MODEL = ("--hidden", "16,16", "--epochs", 2, "--batch-size", 256)
STANDARDISING = 0.04
EVOLVE = ("evolve", *MODEL, "--seeds", 5, "--draws", 3, "--points", 5)


@pytest.fixture(scope="module")
def evolved(tmp_path_factory) -> tuple[Path, Outcome]:
    """Five networks over two epochs, drawn. Not to be changed."""
    folder = tmp_path_factory.mktemp("evolved")
    return folder, done(*EVOLVE, "--out", folder / "runs", "--plot", folder / "evolved.png")


def at(outcome: Outcome, epoch: int, layer: str) -> dict:
    (record,) = [r for r in outcome.records if (r["epoch"], r["layer"]) == (epoch, layer)]
    return record


def test_a_record_for_each_epoch_and_layer(evolved):
    folder, outcome = evolved
    places = [(record["epoch"], record["layer"]) for record in outcome.records]
    assert places == [(epoch, layer) for epoch in (0, 1, 2) for layer in ("hidden1", "hidden2", "all")]
    names = [f"seed{seed}{kept}.h5" for seed in range(5) for kept in ("-epoch0", "-epoch1", "")]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == sorted(names)
    assert (folder / "evolved.png").read_bytes().startswith(b"\x89PNG")
    first, last = at(outcome, 0, "all"), at(outcome, 2, "all")
    assert (last["networks"], last["diverged"], last["epochs"], last["correlated_on"]) == (5, 0, 2, "test-shifts")
    assert first["share_rise"] is None and last["test_accuracy_rise"] == pytest.approx(
        last["test_accuracy"] - first["test_accuracy"]
    )
    assert last["test_accuracy_rise_low"] > 0.2 and first["test_accuracy"] < 0.3


def test_untrained_networks_have_neither_share_nor_privilege(tmp_path):
    """Within their intervals, before the nonlinearity: their axes are like any others of their spaces.

    Rotated axes are of standardised units, which moves both scores by up to STANDARDISING (docs/evolve.md).
    """
    model = ("--width", 32, "--epochs", 0, "--seeds", 5, "--draws", 10, "--no-barrier")
    records = done("evolve", *model, "--out", tmp_path).records
    assert [record["layer"] for record in records] == ["hidden1", "hidden2", "hidden3", "all"]
    for record in records:
        for name in ("share", "privilege"):
            low, high = record[f"{name}_low"], record[f"{name}_high"]
            assert low - STANDARDISING < 0 < high + STANDARDISING, (record["layer"], name)
            assert abs(record[name]) < 2 * STANDARDISING


def test_the_numbers_are_those_of_the_commands(evolved):
    folder, outcome = evolved
    for epoch, kept in ((1, "-epoch1"), (2, "")):
        files = [folder / f"runs/seed{seed}{kept}.h5" for seed in range(5)]
        options = (
            "--split",
            "test-shifts",
            "--tap",
            "pre",
            "--null",
            "rotated",
            "--draws",
            3,
            "--intervals",
            "--similarity",
            "cka",
        )
        mean = [r for r in done("correlate", *files, *options).records if r["pairs"] > 1][-1]
        record = at(outcome, epoch, mean["layer"])
        for name in ("share", "share_low", "matched_held_out_high", "standardised_aligned_held_out"):
            assert record[name] == mean[name], name
        assert record["cka"] == mean["cka_debiased"]
        walks = done("interpolate", *files, "--match", "none,activations", "--correct", "none", "--points", 5).records
        assert [record["barrier"], record["matched_barrier"]] == [w["barrier"] for w in walks if w["pairs"] == 10]
    trained = done("train", *MODEL, "--seeds", 5, "--out", folder / "runs", "--resume").records
    accuracies = [network["test_accuracy"] for network in trained]
    assert at(outcome, 2, "all")["test_accuracy"] == pytest.approx(sum(accuracies) / 5)


def test_what_is_there_is_kept_and_pairs_are_what_the_means_are_of(evolved):
    folder, outcome = evolved
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    again = done(*EVOLVE, "--keep", "", "--out", folder / "runs", "--pairs")
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before
    assert len(again.records) == 2 * 10 and "train loss" not in again.stderr
    pairs = [r for r in again.records if (r["epoch"], r["layer"]) == (2, "hidden1")]
    assert sum(r["cka"] for r in pairs) / 10 == pytest.approx(at(outcome, 2, "hidden1")["cka"])
    assert len({tuple(record) for record in again.records}) == 1


def test_a_table_has_the_means_in_80_columns_and_ends_in_words(evolved, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    options = ("--keep", 0, "--no-barrier", "--format", "table")
    table = done(*EVOLVE, *options, "--out", evolved[0] / "runs").stdout
    assert max(map(len, table.splitlines())) <= 80 and "privilege" in table.splitlines()[1]
    for words in ("share, mean over layers: ", "at epoch 0, ", "test accuracy: ", "it rises by", "half of it by epoch"):
        assert words in " ".join(table.split())
    assert "barrier" not in table


def test_kept_networks_of_another_run_are_refused(evolved, tmp_path):
    folder, _ = evolved
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copy(tmp_path / "runs/seed1-epoch1.h5", tmp_path / "runs/seed0-epoch1.h5")
    call(*EVOLVE, "--out", tmp_path / "runs").refused("seed0-epoch1.h5: is no stage of", "another run")
    other = call(*EVOLVE, "--out", tmp_path / "runs", "--lr", 0.2)
    other.refused("seed0.h5: was trained with another training (lr 0.05, not 0.2)")
    call(*EVOLVE, "--keep", "0,3", "--out", tmp_path / "a").refused("--keep 3: training ends after 2 epochs")
    assert not (tmp_path / "a").exists()


def test_networks_that_diverge_are_left_out_and_counted(tmp_path, monkeypatch):
    linear = ("evolve", *MODEL, "--activation", "linear", "--lr", 1e9, "--seeds", 2, "--keep", "")
    lost = call(*linear, "--out", tmp_path / "a")
    assert lost.code == 1 and "all networks but 0 diverged in training; choose a smaller --lr" in lost.stderr
    (record,) = done(*linear, "--out", tmp_path / "a", "--pairs").records
    assert (record["epoch"], record["layer"], record["networks"], record["diverged"]) == (2, None, 0, 2)
    train = training.train_networks

    def one_diverged(*arguments, **more):
        for record in train(*arguments, **more):
            yield record | ({"status": "diverged"} if record["seed"] == 1 else {})

    monkeypatch.setattr(evolution.training, "train_networks", one_diverged)
    part = done(*EVOLVE[:-4], "--keep", "", "--seeds", 3, "--draws", 2, "--no-barrier", "--out", tmp_path / "b")
    assert [(r["networks"], r["diverged"], r["share_low"]) for r in part.records] == [(2, 1, None)] * 3
    assert "seed1.h5: diverged in training, left out" in part.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--seeds", 1), "two seeds or more"),
        (("--keep", "0,a"), "write different epochs with commas between, such as 0,5, or log"),
        (("--pairs", "--plot", "a.png"), "--plot draws means"),
        (("--points", 4), "an odd number"),
        (("--hidden", "8", "--depth", 2), "leave out --width and --depth"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, arguments, words):
    call("evolve", *arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()
