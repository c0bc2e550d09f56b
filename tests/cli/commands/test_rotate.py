"""`basiscli rotate` through its command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from basiscli import data
from basiscli.experiments import rotation
from basiscli.experiments.rotation_experiment import Experiment, chance_loss
from basiscli.experiments.rotation_sites import Protocol
from basiscli.experiments.training_loop import alone_in
from basiscli.files import checkpoint
from basiscli.files.datasets import load_dataset
from basiscli.files.networks import load_network, save_network
from tests.helpers.command_line import Outcome, call, done, shell
from tests.helpers.files import arrays_in

# Epochs of 1,200 images, and few of them: what is tested is the bookkeeping.
QUICK = ("--epochs", 2, "--augment", "none")
PENALTIES = ("penalty_accuracy", "penalty_test_loss", "penalty_train_loss")


def of(records: list[dict], layer: str, kind: str, over: str = "identity", power: float = 1) -> dict:
    (found,) = (r for r in records if (r["layer"], r["kind"], r["over"], r["power"]) == (layer, kind, over, power))
    return found


@pytest.fixture(scope="module")
def rotated(networks, tmp_path_factory) -> tuple[Path, Outcome]:
    """Three networks, all layers, every default but the epochs; drawn."""
    folder = tmp_path_factory.mktemp("rotated")
    plot = ("--plot", folder / "rotated.png")
    return folder, done("rotate", *networks, *QUICK, "--repeats", 2, "--out", folder / "runs", *plot)


def test_a_record_for_each_layer_and_kind_and_for_each_contrast(rotated):
    records = rotated[1].records
    arms = ["orthogonal", "permutation", "relu-symmetry", "identity"]
    places = [(layer, kind, "identity") for layer in ("hidden1", "hidden2") for kind in arms]
    contrasts = [(layer, "orthogonal", over) for layer in ("hidden1", "hidden2") for over in arms[1:3]]
    assert sorted((r["layer"], r["kind"], r["over"]) for r in records) == sorted(places + contrasts)
    assert len({tuple(r) for r in records}) == 1
    for r in records:
        assert (r["networks"], r["repeats"], r["pairs"], r["failed"], r["units"]) == (3, 2, 6, 0, 24)
        assert (r["tap"], r["retrain"], r["start"], r["cumulative"]) == ("pre", "downstream", "reinit", False)
        for name in PENALTIES:
            assert r[f"{name}_low"] <= r[name] <= r[f"{name}_high"]
    assert of(records, "hidden1", "orthogonal")["parameters"] == 24 * 24 + 24 + 24 * 10 + 10
    for name in PENALTIES:
        assert of(records, "hidden1", "identity")[name] == 0


def test_all_arms_share_the_features_below_m(networks):
    protocol = Protocol(None, (1.0,), "pre", "downstream", None, False, 2, 1, None, 1.0, None)
    experiment = Experiment.of(networks, ["hidden2"], protocol)
    parts = experiment.protocol.slices
    run = rotation.start(experiment, experiment.networks[1], experiment.sites[0], parts)
    assert run.seeds == (2000,) * 4 + (2001,) * 4
    assert run.frozen_split.shared and run.frozen_split.below.nodes[-1].name == "hidden2"
    assert {name: table.shape for name, table in run.cache.items()} == {"hidden2": (9 * 1200, 24)}
    assert run.arrays["hidden2/rotation/w"].shape == (8, 24, 24)
    for s in range(4):
        np.testing.assert_array_equal(run.arrays["output/w"][s], run.arrays["output/w"][0])
        assert (run.arrays["output/w"][s + 4] != run.arrays["output/w"][0]).any()


def test_a_run_continues_from_the_trained_weights_or_from_new_ones(networks):
    for begin in ("continue", "reinit"):
        protocol = Protocol(None, (1.0,), "pre", "downstream", begin, False, 1, 1, None, 1.0, None)
        experiment = Experiment.of(networks, ["hidden1"], protocol)
        network = experiment.networks[2]
        run = rotation.start(experiment, network, experiment.sites[0], experiment.protocol.slices)
        for s in range(len(run.seeds)):
            for path in ("hidden1/w", "hidden1/b"):
                np.testing.assert_array_equal(run.arrays[path][s], network.arrays[path][0])
            for path in ("hidden2/w", "output/w"):
                assert np.array_equal(run.arrays[path][s], network.arrays[path][0]) == (begin == "continue")


def test_penalties_are_paired_differences_of_the_files(rotated):
    folder, outcome = rotated

    def last(layer: str, kind: str, name: str) -> np.ndarray:
        runs = [f"seed{seed}-repeat{repeat}.h5" for seed in range(3) for repeat in range(2)]
        paths = [folder / "runs/pre-downstream-reinit" / layer / kind / run for run in runs]
        return np.array([load_network(path).history[name][-1] for path in paths])

    record = of(outcome.records, "hidden1", "orthogonal")
    turned, kept = (last("hidden1", kind, "test_accuracy") for kind in ("orthogonal", "identity"))
    assert record["penalty_accuracy"] == pytest.approx((kept - turned).mean())
    assert record["test_accuracy"] == pytest.approx(turned.mean())
    contrast = of(outcome.records, "hidden1", "orthogonal", "permutation")
    gained = last("hidden1", "orthogonal", "train_loss") - last("hidden1", "permutation", "train_loss")
    assert contrast["penalty_train_loss"] == pytest.approx(gained.mean())
    ratios = np.log(last("hidden1", "orthogonal", "train_loss") / last("hidden1", "permutation", "train_loss"))
    assert contrast["log_loss_ratios"] == pytest.approx(ratios.reshape(3, 2).mean(axis=1))
    assert contrast["log_loss_ratio"] == pytest.approx(ratios.mean())
    assert contrast["log_loss_ratio_low"] < ratios.mean() < contrast["log_loss_ratio_high"]


def test_frozen_arrays_are_the_networks_and_the_rest_is_alike_in_all_arms(rotated, networks):
    folder, _ = rotated
    found = {
        kind: arrays_in(folder / f"runs/pre-downstream-reinit/hidden1/{kind}/seed1-repeat0.h5")
        for kind in ("orthogonal", "permutation", "relu-symmetry", "identity")
    }
    before = arrays_in(networks[1])
    for values in found.values():
        np.testing.assert_array_equal(values["hidden1/w"], before["hidden1/w"])
        np.testing.assert_array_equal(values["hidden1/b"], before["hidden1/b"])
        assert (values["hidden2/w"] != before["hidden2/w"]).any()
    fixed = {kind: values["hidden1/rotation/w"].astype(float) for kind, values in found.items()}
    np.testing.assert_array_equal(fixed["identity"], np.eye(24))
    np.testing.assert_allclose(fixed["orthogonal"] @ fixed["orthogonal"].T, np.eye(24), atol=1e-6)
    assert (np.sort(fixed["permutation"].argmax(0)) == np.arange(24)).all() and fixed["permutation"].sum() == 24
    origin = load_network(folder / "runs/pre-downstream-reinit/hidden1/orthogonal/seed1-repeat0.h5").origin
    assert origin["of"] == [str(networks[1])] and (origin["kind"], origin["repeat"]) == ("orthogonal", 0)


def test_permutations_and_symmetries_fold_away_and_rotations_do_not(rotated):
    for layer in ("hidden1", "hidden2"):
        found = {r["kind"]: r["fold_residual"] for r in rotated[1].records if r["layer"] == layer}
        assert max(found[kind] for kind in ("permutation", "relu-symmetry", "identity")) < 1e-5
        assert found["orthogonal"] > 0.1


def test_every_rotated_network_is_a_network(rotated, networks):
    folder, _ = rotated
    path = folder / "runs/pre-downstream-reinit/hidden1/permutation/seed0-repeat0.h5"
    assert done("show", path).records[0]["origin"]["layer"] == "hidden1"
    (record,) = done("correlate", networks[0], path, "--layer", "hidden1").records
    assert record["matched"] > 0.95 and record["identity"] < 0.5  # one layer, its units in another order
    turned = folder / "runs/pre-downstream-reinit/hidden1/orthogonal/seed0-repeat0.h5"
    (record,) = done("correlate", networks[0], turned, "--layer", "hidden1", "--tap", "pre").records
    assert record["matched"] < 0.9
    other = turned.with_name("seed1-repeat0.h5")
    for record in done("interpolate", turned, other, "--points", 3, "--match", "none,weights").records:
        ends = [load_network(one).history["test_loss"][-1] for one in (turned, other)]
        assert [record["loss_a"], record["loss_b"]] == pytest.approx(ends, rel=1e-4)
    call("interpolate", networks[0], turned).refused("is rotated, ", "same architecture only")
    done("record", turned, "--out", folder / "recorded.h5")


def test_what_is_there_is_kept_and_must_be_the_same(rotated, networks):
    folder, outcome = rotated
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")}
    same = ("rotate", *networks, "--repeats", 2, "--out", folder / "runs")
    again = done(*same, *QUICK)
    assert again.records == outcome.records and "epoch" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")} == before
    call(*same, *QUICK, "--clip", 2).refused("was trained with another training (clip 1.0, not 2.0); --force")
    other = folder / "other.h5"
    done("transform", networks[0], "--permute", 1, "--out", other)
    call("rotate", other, *networks[1:], *QUICK, "--out", folder / "runs").refused("another origin (checksum ")
    assert (folder / "rotated.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_holds_80_columns(rotated, networks):
    folder, _ = rotated
    same = ("rotate", *networks, *QUICK, "--repeats", 2, "--out", folder / "runs")
    table = done(*same, "--format", "table").stdout
    assert "- relu-symmetry" in table and max(map(len, table.splitlines())) <= 80


def test_an_interrupted_run_goes_on_to_the_same_weights(networks, tmp_path, monkeypatch):
    command = ("rotate", networks[0], "--layer", "hidden1", "--epochs", 2, "--augment", "none", "--repeats", 2)
    done(*command, "--out", tmp_path / "whole")
    snapshot = checkpoint.snapshot

    def interrupted(run, s, words):
        if run.epoch == 2:
            raise KeyboardInterrupt
        return snapshot(run, s, words)

    monkeypatch.setattr(rotation, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "snapshot", interrupted)
    assert call(*command, "--out", tmp_path / "cut").code == 130
    monkeypatch.undo()
    paths = sorted(path.relative_to(tmp_path / "cut") for path in (tmp_path / "cut").rglob("*.h5"))
    assert len(paths) == 8 and load_network(tmp_path / "cut" / paths[0]).status == "unfinished"
    done(*command, "--out", tmp_path / "cut")
    for path in paths:
        mine, theirs = (arrays_in(tmp_path / name / path) for name in ("cut", "whole"))
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)


def test_nothing_retrained(networks, tmp_path):
    """The identity costs nothing at all; training is not needed to see that a permutation does."""
    done("rotate", networks[0], "--retrain", "none", "--out", tmp_path)
    records = done("rotate", *networks, "--retrain", "none", "--repeats", 2, "--out", tmp_path).records
    identity = of(records, "hidden1", "identity")
    assert [identity[name] for name in PENALTIES] == [0, 0, 0] and identity["parameters"] == 0
    assert identity["test_accuracy"] == pytest.approx(identity["base_accuracy"], abs=1e-9)
    turned = of(records, "hidden1", "permutation")
    assert turned["penalty_accuracy"] > 0.2 and turned["fold_residual"] < 1e-5
    assert identity["failed"] == turned["failed"] == 0 and turned["start"] == "continue"
    path = tmp_path / "pre-none/hidden1/permutation/seed0-repeat0.h5"
    before, after = arrays_in(networks[0]), arrays_in(path)
    assert all(np.array_equal(after[name], values) for name, values in before.items())


def test_a_linear_network_trains_it_back_and_relu_does_not(tmp_path):
    """Within noise: the rise of the training loss is a hundredth of ReLU's."""
    gained = {}
    for activation in ("linear", "relu"):
        model = ("--activation", activation, "--hidden", "24,24", "--epochs", 3, "--no-activations")
        done("train", *model, "--out", tmp_path / activation)
        network = tmp_path / activation / "seed0.h5"
        options = (
            "--layer",
            "hidden1",
            "--kind",
            "orthogonal",
            "--repeats",
            2,
            "--out",
            tmp_path / f"{activation}-rotated",
        )
        record = of(done("rotate", network, *options).records, "hidden1", "orthogonal")
        gained[activation] = record["penalty_train_loss"]
        assert (record["fold_residual"] < 1e-5) == (activation == "linear")
    assert abs(gained["linear"]) < 0.01 < 0.1 < gained["relu"]


def test_after_relu_the_rotated_activations_cannot_be_restored(networks, tmp_path):
    post = ("--tap", "post", "--retrain", "upstream", "--layer", "hidden1", "--repeats", 1, *QUICK)
    records = done(
        "rotate", networks[0], *post, "--kind", "orthogonal,permutation,signed-permutation", "--out", tmp_path
    ).records
    found = {r["kind"]: r["reconstruction_error"] for r in records if r["over"] == "identity"}
    assert found["permutation"] == found["identity"] == 0
    assert 0.1 < found["orthogonal"] < 1 and 0.1 < found["signed-permutation"] < 1
    downstream = ("--tap", "post", "--layer", "hidden1", "--repeats", 1, *QUICK)
    record = of(done("rotate", networks[0], *downstream, "--out", tmp_path).records, "hidden1", "orthogonal")
    assert record["fold_residual"] < 1e-5


def test_powers_and_cumulative_rotations(networks, tmp_path):
    options = ("--power", "0.5,1", "--cumulative", "--layer", "hidden2", "--repeats", 1, *QUICK)
    outcome = done("rotate", networks[0], *options, "--out", tmp_path, "--plot", tmp_path / "powers.png")
    arms = [(r["kind"], r["power"]) for r in outcome.records if r["over"] == "identity"]
    assert arms[:2] == [("orthogonal", 0.5), ("orthogonal", 1)] and len(arms) == 5
    folder = tmp_path / "pre-downstream-reinit-cumulative/hidden2"
    half, whole = (arrays_in(folder / name / "seed0-repeat0.h5") for name in ("orthogonal-0.5", "orthogonal"))
    for path in ("hidden1/rotation/w", "hidden2/rotation/w"):
        np.testing.assert_allclose(half[path] @ half[path], whole[path], atol=1e-5)
    assert (tmp_path / "powers.png").read_bytes().startswith(b"\x89PNG")


def test_powers_that_share_a_name_are_one(networks, tmp_path):
    options = ("--power", "0.5,0.50000001", "--layer", "hidden2", "--retrain", "none", "--repeats", 1)
    records = done("rotate", networks[0], *options, "--out", tmp_path).records
    assert [r["power"] for r in records if r["kind"] == "orthogonal" and r["over"] == "identity"] == [0.5]


def test_failed_optimisations_are_counted_and_kept_out(networks, tmp_path):
    options = ("--layer", "hidden2", "--lr", 1e6, "--repeats", 2, *QUICK)
    for record in done("rotate", networks[0], *options, "--out", tmp_path).records:
        assert (record["failed"], record["pairs"]) == (2, 0)
        assert record["penalty_accuracy"] is record["test_accuracy"] is record["penalty_train_loss_low"] is None
    assert chance_loss(np.repeat([0, 1, 2, 3], 5)) == pytest.approx(np.log(4))
    assert chance_loss(np.array([0, 0, 0, 1])) == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))


def test_a_pair_is_left_out_where_its_reference_failed(networks, tmp_path):
    """The identity's run of one network is made to have failed; what it is the reference of stays in the means."""
    command = ("rotate", *networks, "--layer", "hidden2", "--repeats", 1, *QUICK, "--out", tmp_path)
    before = done(*command).records
    path = tmp_path / "pre-downstream-reinit/hidden2/identity/seed1-repeat0.h5"
    file = load_network(path)
    file.history["train_loss"] = np.array([9.0, 9.0])
    save_network(path, file, force=True)
    found = done(*command).records
    turned, kept = (of(found, "hidden2", kind) for kind in ("orthogonal", "identity"))
    assert (turned["failed"], turned["pairs"], kept["failed"], kept["pairs"]) == (0, 2, 1, 2)
    assert turned["test_accuracy"] == of(before, "hidden2", "orthogonal")["test_accuracy"]
    assert turned["penalty_accuracy"] != of(before, "hidden2", "orthogonal")["penalty_accuracy"]
    contrast = of(found, "hidden2", "orthogonal", "permutation")
    assert contrast["pairs"] == 3


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--power", "0.5,1.2"), "1.2 is not above 0 and at most 1"),
        (("--power", "0"), "0 is not above 0"),
        (("--power", "half"), "'half': write numbers"),
        (("--power", "0.5", "--kind", "permutation"), "--power is of orthogonal maps"),
        (("--kind", "rotation"), "'rotation' is none of orthogonal, permutation"),
        (("--kind", "relu-symmetry", "--tap", "post"), "relu-symmetry is about a map before ReLU"),
        (("--retrain", "none", "--epochs", 2), "--retrain none trains nothing"),
        (("--retrain", "none", "--start", "reinit"), "--retrain none trains nothing"),
        (("--repeats", 0), "--repeats"),
    ],
)
def test_a_wrong_command_line_is_refused(networks, tmp_path, arguments, words):
    call("rotate", networks[0], *arguments, "--out", tmp_path / "a").refused(words, code=2)
    assert not (tmp_path / "a").exists()


def test_networks_and_layers_that_do_not_fit_are_refused(networks, rotated, tmp_path):
    def refused(*words: str, of=(networks[0],), options=()) -> None:
        call("rotate", *of, *options, "--out", tmp_path / "a").refused(*words)
        assert not (tmp_path / "a").exists()

    refused("--layer hidden7: no such layer; there are hidden1, hidden2", options=("--layer", "hidden7"))
    refused("output gives the logits and is not rotated", options=("--layer", "output"))
    refused("no.h5: no such file", of=[tmp_path / "no.h5"])
    save_network(tmp_path / "again.h5", load_network(networks[0]))
    refused("again.h5 are both of seed 0", of=(networks[0], tmp_path / "again.h5"))
    # What the default layers of a WideResNet run into says what to choose.
    done("train", "--model", "wideresnet", "--depth", 10, "--width", 0.25, "--epochs", 0, "--out", tmp_path / "wrn")
    refused("rotating them has no meaning", "--layer '*/conv1'", of=[tmp_path / "wrn/seed0.h5"])
    turned = rotated[0] / "runs/pre-downstream-reinit/hidden1/orthogonal/seed0-repeat0.h5"
    refused("is a rotated network already", of=[turned])
    done("train", "--hidden", "9", "--epochs", 0, "--seeds", "7-7", "--out", tmp_path / "small")
    small = tmp_path / "small/seed7.h5"
    refused("differ in their architecture", of=(networks[0], small))
    refused("seed7.h5: was trained for no epochs", of=[small])
    gone = load_network(small)
    gone.status = "unfinished"
    save_network(tmp_path / "unfinished.h5", gone)
    refused("unfinished.h5: is unfinished", of=[tmp_path / "unfinished.h5"])
    gone.status = "done"
    gone.dataset |= {"name": str(tmp_path / "gone.npz")}
    save_network(tmp_path / "gone.h5", gone)
    refused(f"gone.h5: its data set {tmp_path / 'gone.npz'} is gone", "--dataset", of=[tmp_path / "gone.h5"])
    broken = load_network(networks[0])
    broken.weights["hidden2/b"][3] = np.inf
    save_network(tmp_path / "broken.h5", broken)
    refused("broken.h5: hidden2/b holds values that are not finite", of=[tmp_path / "broken.h5"])
    gone.dataset |= {"name": "digits", "checksum": "0"}
    save_network(tmp_path / "other.h5", gone)
    refused("is not the one it was trained on; name that one with --dataset", of=[tmp_path / "other.h5"])
    done("train", "--hidden", "9", "--activation", "tanh", "--epochs", 0, "--out", tmp_path / "tanh")
    refused(
        "scales pass through ReLU, not through tanh",
        of=[tmp_path / "tanh/seed0.h5"],
        options=("--kind", "relu-symmetry", "--epochs", 1),
    )


def test_a_data_set_that_moved(tmp_path):
    digits = data.load("digits")
    few = {f"{name}/images": getattr(digits, name).images[:100] for name in ("train", "test")}
    few |= {f"{name}/labels": getattr(digits, name).labels[:100] for name in ("train", "test")}
    np.savez(tmp_path / "few.npz", **few)
    done("train", "--dataset", tmp_path / "few.npz", "--hidden", "9", "--epochs", 1, "--out", tmp_path)
    (tmp_path / "few.npz").rename(tmp_path / "moved.npz")
    load_dataset.cache_clear()  # this process has just read it
    command = ("rotate", tmp_path / "seed0.h5", "--repeats", 1, "--epochs", 1, "--out", tmp_path / "a")
    call(*command).refused("few.npz")
    first = done(*command, "--dataset", tmp_path / "moved.npz")
    again = done(*command, "--dataset", tmp_path / "moved.npz")
    assert again.records == first.records and "epoch" not in again.stderr


def test_a_convolutional_and_a_residual_network(tmp_path):
    model = ("--model", "resnet", "--depth", 8, "--width", "1/4", "--epochs", 0, "--augment", "none")
    done("train", *model, "--out", tmp_path)
    places = ("stem", "block1/sum", "block2/conv1")
    chosen = [option for layer in places for option in ("--layer", layer)]
    options = (*chosen, "--repeats", 1, "--epochs", 1, "--out", tmp_path / "a")
    records = done("rotate", tmp_path / "seed0.h5", *options).records
    assert {r["layer"] for r in records} == set(places) and {r["start"] for r in records} == {"continue"}
    for layer in ("stem", "block2/conv1"):
        assert of(records, layer, "permutation")["fold_residual"] < 1e-4
    # block1/conv1 reads the rotated stream too, and is frozen.
    assert of(records, "block1/sum", "permutation")["fold_residual"] is None
    assert of(records, "block1/sum", "identity")["fold_residual"] == 0
    done("correlate", tmp_path / "seed0.h5", tmp_path / "a/pre-downstream-continue/stem/permutation/seed0-repeat0.h5")


def test_train_pipes_into_rotate(tmp_path):
    pipe = (
        "basiscli train --hidden 12,12 --epochs 1 --seeds 3 2>/dev/null | basiscli rotate - --layer hidden1 2>/dev/null"
    )
    outcome = shell(f"{pipe} | head -1", tmp_path)
    assert outcome.returncode in (0, 141), outcome.stderr
    record = json.loads(outcome.stdout)
    assert (record["kind"], record["networks"]) == ("orthogonal", 3)


def test_no_record_is_about_files_that_another_program_may_overwrite(networks, tmp_path):
    out = tmp_path / "rotated"
    command = ("rotate", networks[0], "--layer", "hidden1", *QUICK, "--repeats", 1, "--out", out)
    assert call(*command).code == 0
    with alone_in(next(out.iterdir())):
        call(*command).refused("another program trains here")
