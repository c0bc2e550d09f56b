"""`basiscli compare` through its command line."""

from pathlib import Path

import pytest

from tests.helpers.command_line import Outcome, call, done

COMPARE = ("compare", "--hidden", "16", "--activation", "linear", "--epochs", 1, "--batch-size", 512, "--seeds", 3,
           "--draws", 2)  # fmt: skip
GRID = ("--vary", "lr=0.05,0.1,1e9")


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, Outcome]:
    """A grid of three rates, of which one is too large, drawn. Not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, done(*COMPARE, *GRID, "--out", folder / "grid", "--plot", folder / "compared.png")


def test_cells_then_contrasts_with_a_cell_that_diverged_left_out(compared):
    folder, outcome = compared
    whole = {record["name"]: record for record in outcome.records if record["layer"] in (None, "all")}
    assert list(whole) == ["0.05", "0.1", "1e9", "0.1 - 0.05"]
    assert (whole["1e9"]["networks"], whole["1e9"]["diverged"], whole["1e9"]["share"]) == (0, 3, None)
    slow, fast, contrast = (whole[name] for name in ("0.05", "0.1", "0.1 - 0.05"))
    assert slow["lr"] == "0.05" and slow["networks"] == 3 and slow["share_rise"] is None
    for name in ("share", "privilege", "test_accuracy"):
        assert contrast[f"{name}_rise"] == pytest.approx(fast[name] - slow[name])
        assert contrast[f"{name}_rise_low"] < contrast[f"{name}_rise"] < contrast[f"{name}_rise_high"]
    assert (folder / "compared.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (folder / "grid/compared").iterdir()} == {"0.05", "0.1", "1e9"}


def test_a_figure_that_exists_is_refused_before_anything_is_trained(compared, tmp_path):
    figure = compared[0] / "compared.png"
    call(*COMPARE, *GRID, "--out", tmp_path / "a", "--plot", figure).refused("compared.png: exists", "--force")
    assert not (tmp_path / "a").exists()


def test_cells_that_are_done_are_not_done_again(compared, monkeypatch):
    folder, _ = compared
    monkeypatch.setenv("COLUMNS", "80")
    again = done(*COMPARE, *GRID, "--out", folder / "grid", "--format", "table")
    assert "[" not in again.stderr and max(map(len, again.stdout.splitlines())) <= 80
    assert "1e9: 3 networks diverged in training; the cell is left out" in again.stdout
    assert "lr 0.1 instead of 0.05: share" in again.stdout
    status = done("study", folder / "grid", "--status").records
    assert [row["status"] for row in status] == ["done", "done", "done", "3 done"]
    more = call(*COMPARE, "--vary", "lr=0.05,0.1,0.2", "--out", folder / "grid", "--dry-run").records
    assert [(row["step"], row["why"]) for row in more] == [
        ("compare-0.2", "it has not run"), ("1 of 3 steps", None),
    ]  # fmt: skip
    assert more[-1]["networks"] == 3 and more[0]["seconds"] > 0


@pytest.mark.slow
def test_a_cell_that_cannot_be_trained_is_told_and_the_others_are_kept(tmp_path):
    outcome = call(*COMPARE, "--vary", "model=mlp,resnet", "--out", tmp_path)
    assert outcome.code == 2 and "--hidden is of mlp, not of resnet" in outcome.stderr
    (tmp_path / "file").write_text("no data set")
    words = ("compare", "--width", 8, "--epochs", 1, "--seeds", 2, "--draws", 2)
    outcome = call(*words, "--vary", f"dataset=digits,{tmp_path / 'file'}.npz", "--out", tmp_path / "grid")
    assert outcome.code == 1 and "1 of 2 steps failed" in outcome.stderr
    assert {record["networks"] for record in outcome.records} == {2}


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "--vary"),
        (("--vary", "optimizer"), "'optimizer': write an option of training and its levels"),
        (("--vary", "optimizer=sgd,"), "write an option of training"),
        (("--vary", "optimizer=sgd,adam"), "'adam'"),
        (("--vary", "colour=red,blue"), "--vary colour: no option of training that can vary"),
        (("--vary", "lr=0.1"), "a factor with two levels or more"),
        (("--vary", "lr=0.1,0.2", "--vary", "lr=0.3"), "give all levels of a factor at once"),
        (("--vary", "lr=0.1,0.2", "--lr", 0.3), "--lr is a factor of the grid"),
        (("--vary", "lr=0.1,0.2", "--seeds", 1), "two seeds or more"),
        (("--vary", "lr=0.1,0.2", "--hidden", 8, "--depth", 2), "leave out --width and --depth"),
        (("--vary", "lr=0.1,0.2", "--jobs", 2, "--scheduler", "tcp://127.0.0.1:9"), "--jobs is for this machine"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, arguments, words):
    call("compare", *arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()
