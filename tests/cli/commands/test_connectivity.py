"""`basiscli connectivity` through its command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from basiscli.analysis.assess import SCORES as CORRELATION
from basiscli.analysis.statistics import ENDS
from basiscli.files.networks import load_network, save_network
from tests.helpers.command_line import Outcome, call, done, shell

TRAINING = ("--depth", 2, "--epochs", 2, "--batch-size", 64)
QUICK = ("--match", "none,activations", "--points", 5, "--correct-on", 300, "--draws", 3)
FIELDS = [
    "width", "match", "correct", "split", "pairs", "walked_images",
    "barrier", "midpoint", "accuracy_barrier", "accuracy_midpoint",
    *(f"{name}_{end}" for name in ("barrier", "midpoint", "accuracy_barrier", "accuracy_midpoint")
      for end in ("low", "high", "error")),
    *(f"{name}{end}" for name in ("barrier_log_ratio", "accuracy_barrier_log_ratio") for end in ENDS),
    "networks", "epochs", "optimizer", "test_accuracy", "dead", "fewest_units",
    "matched_images", "correlated_on", "correlated_images", "degraded_to", "equal_correlation",
    *(f"{name}{end}" for name in ("correlation", *CORRELATION, "share") for end in ENDS),
]  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Outcome]:
    """Two widths of three seeds, trained, matched, degraded and drawn."""
    folder = tmp_path_factory.mktemp("connectivity")
    arguments = (*TRAINING, "--widths", "24,8", "--seeds", 3, *QUICK, "--degrade", "--out", folder / "runs")
    return folder, done("connectivity", *arguments, "--plot", folder / "widths.png")


def test_a_record_for_each_width_and_condition(study):
    _, outcome = study
    conditions = [(r["width"], r["match"], r["correct"]) for r in outcome.records]
    plain, worse = ("none", "activations"), ("activations-degraded", "activations-fewer-images")
    assert conditions == [
        (w, m, c) for part in (plain, worse) for w in (8, 24) for m in part for c in ("none", "repair")
    ]
    for record in outcome.records:
        assert list(record) == FIELDS
        assert (record["networks"], record["pairs"], record["split"]) == (3, 3, "test")
        for name in ("barrier", "correlation", *CORRELATION):
            assert record[f"{name}_low"] <= record[name] <= record[f"{name}_high"], name
        assert 0 <= record["dead"] < 0.5 < record["test_accuracy"]


def test_the_barriers_are_those_of_interpolate_and_the_correlations_those_of_correlate(study):
    folder, outcome = study
    files = sorted((folder / "runs/width24").iterdir())
    means = done("interpolate", *files, *QUICK[:-2]).records[-4:]
    for record, mean in zip(outcome.records[4:8], means, strict=True):
        assert (record["match"], record["correct"]) == (mean["match"], mean["correct"])
        for name in ("barrier", "barrier_low", "midpoint", "accuracy_barrier_high"):
            assert record[name] == mean[name], name
    options = ("--split", "test", "--null", "rotated", "--draws", 3, "--intervals")
    layers = [record for record in done("correlate", *files, *options).records if record["pairs"] == 3]
    for name in CORRELATION:
        assert outcome.records[4][name] == pytest.approx(np.mean([layer[name] for layer in layers])), name


def test_the_correlation_under_a_match_is_that_of_units_with_the_same_number(study, tmp_path):
    folder, outcome = study
    first, second = sorted((folder / "runs/width24").iterdir())[:2]
    record = done("connectivity", first, second, *QUICK).records[2]
    done("match", first, second, "--by", "activations", "--apply", tmp_path / "moved.h5")
    layers = done("correlate", first, tmp_path / "moved.h5", "--split", "test").records
    assert record["correlation"] == pytest.approx(np.mean([layer["identity"] for layer in layers]))
    none = outcome.records[4]
    assert abs(none["correlation"]) < 0.15 < outcome.records[6]["correlation"]


def test_degrading_brings_every_width_to_one_correlation_both_ways(study):
    """0.05 below the width that correlates least; the record says what was asked for, and whether it was reached."""
    _, outcome = study
    found = {(record["width"], record["match"]): record for record in outcome.records if record["correct"] == "none"}
    goal = min(found[width, "activations"]["correlation"] for width in (8, 24)) - 0.05
    for width in (8, 24):
        plain = found[width, "activations"]
        assert plain["degraded_to"] is plain["equal_correlation"] is None and plain["matched_images"] == 1200
        for way in ("degraded", "fewer-images"):
            record = found[width, f"activations-{way}"]
            assert record["degraded_to"] == pytest.approx(goal)
            assert record["equal_correlation"] == (abs(record["correlation"] - goal) < 0.01)
            # With 8 units and three pairs the steps are coarse.
            assert record["correlation"] == pytest.approx(goal, abs=0.08 if width == 8 else 0.03)
            assert record["barrier"] > 0
        assert found[width, "activations-fewer-images"]["matched_images"] < 1200
        assert found[width, "activations-degraded"]["matched_images"] == 1200
    assert found[24, "activations-degraded"]["equal_correlation"]
    assert found[24, "activations-degraded"]["barrier"] > found[24, "activations"]["barrier"]


def test_the_log_ratio_is_that_of_the_same_pairs_without_a_match(study):
    folder, outcome = study
    files = sorted((folder / "runs/width8").iterdir())
    pairs = [
        r for r in done("interpolate", *files, *QUICK[:-2]).records if r["pairs"] == 1 and r["correct"] == "repair"
    ]
    barrier = {(r["a"], r["b"], r["match"]): r["barrier"] for r in pairs}
    ratios = [np.log((v + 0.01) / (barrier[a, b, "none"] + 0.01)) for (a, b, m), v in barrier.items() if m != "none"]
    record = next(r for r in outcome.records if (r["match"], r["correct"]) == ("activations", "repair"))
    assert record["barrier_log_ratio"] == pytest.approx(np.mean(ratios))
    assert record["barrier_log_ratio_low"] < np.mean(ratios) < record["barrier_log_ratio_high"]
    assert outcome.records[0]["barrier_log_ratio"] == 0
    assert (record["epochs"], record["optimizer"]) == (2, "sgd")
    assert (record["correlated_on"], record["correlated_images"], record["walked_images"]) == ("test", 597, 597)


def test_all_widths_can_be_degraded_to_one_correlation(study):
    folder, _ = study
    records = done("connectivity", folder / "runs/width8", folder / "runs/width24", *QUICK, "--degrade-to", 0.2).records
    found = [record["correlation"] for record in records if record["match"] == "activations-degraded"]
    # Few units cannot be undone in small steps: at width 8, swapping two moves the mean by about a tenth.
    assert found == [pytest.approx(0.2, abs=0.06)] * 2 + [pytest.approx(0.2, abs=0.015)] * 2
    assert {record["degraded_to"] for record in records if "-" in record["match"]} == {0.2}


def test_dead_units_are_a_share_of_all(study, tmp_path):
    folder, _ = study
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for number, path in enumerate(paths):
        file = load_network(folder / f"runs/width8/seed{number}.h5")
        file.weights["hidden1/w"][:, : 1 + number], file.weights["hidden1/b"][: 1 + number] = 0, -1
        save_network(path, file)
    layers = done("correlate", *paths, "--split", "test").records
    counts = [layer["dead_a"] + layer["dead_b"] for layer in layers]
    assert counts[0] >= 3
    record = done("connectivity", *paths, *QUICK).records[0]
    assert record["dead"] == pytest.approx(sum(counts) / (2 * 2 * 8))


def test_what_is_trained_is_kept_and_can_be_taken(study):
    folder, outcome = study
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")}
    assert len(before) == 6
    trained = (*TRAINING, "--widths", "8,24", "--seeds", 3, "--out", folder / "runs")
    again = done("connectivity", *trained, *QUICK, "--degrade")
    assert again.records == outcome.records and "epoch" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")} == before
    taken = done("connectivity", folder / "runs/width24", folder / "runs/width8", *QUICK, "--degrade")
    assert taken.records == outcome.records


def test_a_figure_and_a_table(study):
    folder, _ = study
    assert (folder / "widths.png").read_bytes().startswith(b"\x89PNG")
    table = done("connectivity", folder / "runs/width8", *QUICK, "--split", "test,train", "--format", "table").stdout
    assert "train" in table and "null" in table and "[" in table


def test_networks_come_through_a_pipe(study):
    folder, outcome = study
    script = f"ls {folder}/runs/width8/*.h5 | basiscli connectivity - {' '.join(map(str, QUICK))} | head -1"
    piped = shell(script, folder)
    assert json.loads(piped.stdout) == outcome.records[0], piped.stderr


def test_convolutional_networks_of_fractional_widths(tmp_path):
    model = ("--model", "convnet", "--layout", "16,pool,32", "--norm", "batch", "--epochs", 1, "--augment", "none")
    outcome = done("connectivity", *model, "--widths", "1/4,1/8", "--seeds", 2, *QUICK, "--out", tmp_path)
    assert [record["width"] for record in outcome.records] == [0.125] * 4 + [0.25] * 4
    assert {record["correct"] for record in outcome.records} == {"none", "reset-bn"}
    assert outcome.records[0]["barrier_low"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["width0.125", "width0.25"]


def test_networks_that_make_no_study_are_refused(study, networks, tmp_path):
    folder, _ = study
    narrow, wide = sorted((folder / "runs/width8").iterdir()), sorted((folder / "runs/width24").iterdir())
    call("connectivity", *narrow, wide[0]).refused("width24/seed0.h5: the only network of width 24")
    call("connectivity", tmp_path).refused("holds no .h5 file")
    other = done("train", "--hidden", "8,8,8", "--epochs", 0, "--out", tmp_path / "deeper").records[0]["path"]
    call("connectivity", *narrow, other).refused("seed0.h5: differs from", "in more than its width (hidden 3 layers")
    file = load_network(narrow[0])
    file.status = "diverged"
    for name in ("a.h5", "b.h5"):
        save_network(tmp_path / name, file)
    outcome = done("connectivity", *narrow, tmp_path / "a.h5", *QUICK)
    assert "a.h5: diverged in training, left out" in outcome.stderr and outcome.records[0]["networks"] == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--widths", "16,16"), "names a width twice"),
        (("--widths", "0"), "write a number above 0"),
        (("--seeds", 1), "two seeds or more"),
        (("--model", "vgg"), "--widths: vgg has no usual ones"),
        (("--match", "a.h5"), "a file of permutations is of one width"),
        (("--match", "none", "--degrade"), "--degrade undoes matches"),
        (("--match", "activations", "--from-init"), "--from-init is about weights"),
        (("a.h5", "--lr", 0.1), "--lr is for training"),
        (("--degrade-to", 2), "--degrade-to"),
        (("--model", "mlp", "--widths", "1/2"), "whole number of units"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, arguments, words):
    call("connectivity", *arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()
