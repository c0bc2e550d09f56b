"""`basiscli interpolate` and `basiscli merge` through their command lines."""

import json
from dataclasses import replace

import numpy as np
import pytest

from basiscli import data
from basiscli.alignment import corrections, interpolation
from basiscli.files.networks import load, load_network, save_network
from basiscli.nn import models
from basiscli.nn.unit_groups import permute_units, unit_groups
from basiscli.training.evaluation import evaluate
from basiscli.training.images import Standardisation
from tests.helpers.command_line import call, done, shell

MODELS = {
    "mlp": ("--hidden", "24,16"),
    "vgg": ("--model", "vgg", "--layout", "8,pool,16"),
    "resnet": ("--model", "resnet", "--depth", 8, "--width", 0.25),
    "wideresnet": ("--model", "wideresnet", "--depth", 10, "--width", 0.5, "--norm", "layer"),
}
TRAINING = ("--epochs", 3, "--batch-size", 64, "--augment", "none", "--no-activations")
FEW = ("--points", 5, "--match", "none,activations", "--correct-on", 300)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> dict[str, list[str]]:
    """Two trained networks of every model, and a permuted copy of the first."""
    folder, found = tmp_path_factory.mktemp("pairs"), {}
    for name, model in MODELS.items():
        records = done("train", *model, *TRAINING, "--seeds", 2, "--out", folder / name).records
        found[name] = [record["path"] for record in records]
        copy = str(folder / name / "copy.h5")
        _permute(found[name][0], copy)
        found[name].append(copy)
    return found


def _permute(path: str, copy: str) -> None:
    loaded = load(path)
    groups, rng = unit_groups(loaded.network), np.random.default_rng(0)
    moves = {group: rng.permutation(units)[None] for group, units in groups.groups.items()}
    arrays = permute_units(groups, loaded.arrays, moves)
    file = loaded.file
    parts = {part: {name: arrays[name][0] for name in getattr(file, part)} for part in ("weights", "state")}
    save_network(copy, replace(file, **parts))


@pytest.mark.parametrize("name", MODELS)
def test_the_barrier_to_a_permuted_copy_is_zero_after_matching(pairs, name):
    first, _, copy = pairs[name]
    outcome = done("interpolate", first, copy, "--match", "none,activations", "--points", 5, "--split", "test,train")
    found = {(record["match"], record["correct"], record["split"]): record for record in outcome.records}
    for correct in ("none", "reset-bn" if name in ("vgg", "resnet") else "repair"):
        for split in ("test", "train"):
            record = found["activations", correct, split]
            assert abs(record["barrier"]) < 1e-4 and abs(record["accuracy_barrier"]) < 0.002
            assert abs(record["midpoint"]) < 1e-4
            assert record["difference"] < 1e-4
            assert record["loss_a"] == pytest.approx(record["loss_b"], abs=1e-4)
    assert found["none", "none", "test"]["barrier"] > 0.01


def test_permutations_come_from_a_file(pairs, tmp_path):
    first, _, copy = pairs["mlp"]
    file = str(tmp_path / "p.h5")
    done("match", first, copy, "--by", "activations", "--out", file)
    records = done("interpolate", first, copy, "--match", f"{file},none", "--points", 3, "--correct", "none").records
    assert [record["match"] for record in records] == ["none", file]
    assert abs(records[1]["barrier"]) < 1e-4 < records[0]["barrier"]


def test_the_ends_are_the_networks(pairs):
    first, second, _ = pairs["vgg"]
    outcome = done("interpolate", first, second, *FEW)
    test = [load_network(path).history for path in (first, second)]
    for record in outcome.records:
        if record["correct"] == "none":
            for end, history in zip("ab", test, strict=True):
                assert record[f"loss_{end}"] == pytest.approx(history["test_loss"][-1], rel=1e-5)
                assert record[f"accuracy_{end}"] == history["test_accuracy"][-1]


def test_repair_keeps_the_ends(pairs):
    first, second, _ = pairs["mlp"]
    records = done("interpolate", first, second, *FEW, "--correct", "none,repair").records
    plain, repaired = records[:2]
    assert (plain["correct"], repaired["correct"]) == ("none", "repair")
    for end in ("loss_a", "loss_b"):
        assert repaired[end] == pytest.approx(plain[end], rel=1e-4)
    assert repaired["midpoint"] != pytest.approx(plain["midpoint"], rel=1e-2)


def test_a_reset_changes_the_untouched_network_by_what_its_statistics_were_stale(pairs):
    """With the running statistics replaced by those of the images, nothing else changes the loss at λ = 0."""
    first, second, _ = pairs["vgg"]
    option = ("--match", "none", "--points", 3, "--correct-on", 1200)
    plain, reset = done("interpolate", first, second, *option, "--correct", "none,reset-bn").records
    assert reset["loss_a"] != plain["loss_a"]
    file = load_network(first)
    network = models.build(file.architecture)
    digits = data.load("digits")
    standard = Standardisation.of(digits.train.images)
    arrays = {name: values[None].copy() for name, values in (file.weights | file.state).items()}
    corrections.reset_batchnorm(network, arrays, corrections.sample(digits.train, standard, 1200, 0))
    loss, _ = evaluate(network, arrays, digits.test, standard)
    assert reset["loss_a"] == pytest.approx(loss[0], rel=1e-6)


def test_means_have_intervals_over_networks(networks):
    outcome = done("interpolate", *networks, *FEW, "--correct", "none")
    *single, none, activations = outcome.records
    assert len(single) == 2 * 3
    assert (none["a"], none["b"], none["match"], none["pairs"]) == ("3 networks", "3 pairs", "none", 3)
    of_none = [record for record in single if record["match"] == "none"]
    assert none["barrier"] == pytest.approx(np.mean([record["barrier"] for record in of_none]))
    np.testing.assert_allclose(none["loss"], np.mean([record["loss"] for record in of_none], axis=0))
    for record in (none, activations):
        assert record["barrier_low"] <= record["barrier"] <= record["barrier_high"]
    assert set(none) == set(single[0]) and single[0]["barrier_low"] is None
    assert none["lambdas"] == [0, 0.25, 0.5, 0.75, 1]
    assert activations["barrier"] < none["barrier"]


def test_a_temperature_divides_the_logits(networks):
    record = done("interpolate", *networks[:2], "--match", "none", "--points", 3, "--temperature", 1e9).records[0]
    assert record["loss"] == pytest.approx([np.log(10)] * 3, rel=1e-5)


def test_samples_are_a_part_of_the_split(networks):
    few = done("interpolate", *networks[:2], "--match", "none", "--points", 3, "--samples", 50).records[0]
    assert all((50 * value) == pytest.approx(round(50 * value)) for value in few["accuracy"])


def test_one_walk_does_not_depend_on_how_many_fit_the_memory(networks, monkeypatch):
    whole = done("interpolate", *networks[:2], *FEW).records
    monkeypatch.setattr(interpolation, "MEMORY_PART", 0)
    assert done("interpolate", *networks[:2], *FEW).records == whole


def test_it_reads_a_pipe_and_draws(tmp_path):
    outcome = shell(
        "basiscli train --seeds 3 --epochs 1 --hidden 12,12 2>/dev/null"
        " | basiscli interpolate - --points 3 --match none,activations --plot path.png | tail -1",
        tmp_path,
    )
    assert json.loads(outcome.stdout)["b"] == "3 pairs", outcome.stderr
    assert (tmp_path / "path.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_fits_80_columns(networks):
    table = done("interpolate", *networks, *FEW, "--format", "table").stdout
    assert all(words in table for words in ("3 pairs", "points", "lost")) and max(map(len, table.splitlines())) <= 80


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, str]:
    """Networks that nothing lies between."""
    folder = tmp_path_factory.mktemp("others")

    def one(name: str, *options: object, code: int = 0) -> str:
        outcome = call("train", *TRAINING, *options, "--out", folder / name)
        assert outcome.code == code, outcome.stderr
        return outcome.records[0]["path"]

    found = {
        "wider": one("wider", "--hidden", "32,24"),
        "diverged": one("diverged", "--hidden", "24,24", "--activation", "linear", "--lr", 1e9, code=1),
        "linear": one("linear", "--hidden", "24,24", "--activation", "linear"),
        "dead": str(folder / "dead.h5"),
    }
    file = load_network(found["wider"])
    file.weights["hidden2/w"][...], file.weights["hidden2/b"][...] = 0, -1
    save_network(found["dead"], file)
    return found


def test_what_one_cannot_walk_between_is_refused(networks, others, tmp_path):
    first, second = networks[:2]
    call("interpolate", first).refused("two networks or more")
    call("interpolate", first, others["wider"]).refused("wider/seed0.h5: has hidden [32, 24]", "same architecture")
    call("interpolate", others["linear"], others["diverged"]).refused("diverged/seed0.h5: diverged in training")
    call("interpolate", others["wider"], others["dead"]).refused("dead.h5: gives the same logits for every image")
    call("interpolate", first, second, "--correct", "reset-bn").refused("no BatchNorm to reset")
    call("interpolate", first, tmp_path / "no.h5").refused("no.h5: no such file")
    call("interpolate", first, second, "--match", tmp_path / "no.h5").refused("no.h5: no such file")


@pytest.mark.parametrize(
    "options, words",
    [
        (("--points", 4), "an odd number from 3 on"),
        (("--match", "wieghts"), "'wieghts' is none of none, activations, weights, both"),
        (("--match", ""), "'' is none of none, activations, weights, both"),
        (("--match", "none,activations", "--from-init"), "--from-init is about weights"),
        (("--correct", "all-of-it"), "'all-of-it' is none of none, reset-bn, repair"),
        (("--split", "validation"), "'validation' is none of test, train"),
        (("--temperature", 0), "--temperature"),
    ],
)
def test_a_wrong_command_line_is_refused(networks, options, words):
    call("interpolate", *networks[:2], *options).refused(words, code=2)


def test_merging_by_activations_does_not_look_at_initial_weights(networks, tmp_path):
    out = tmp_path / "m.h5"
    call("merge", *networks, "--from-init", "--out", out).refused("--from-init is about weights", code=2)
    assert not out.exists()


def test_a_data_set_that_moved(networks, tmp_path):
    digits, paths = data.load("digits"), []
    parts = {name: getattr(digits, name) for name in ("train", "test")}
    arrays = {f"{name}/images": part.images for name, part in parts.items()}
    np.savez(tmp_path / "here.npz", **arrays, **{f"{name}/labels": part.labels for name, part in parts.items()})
    moved = data.load(str(tmp_path / "here.npz"))
    for number, path in enumerate(networks[:2]):
        file = load_network(path)
        file.dataset |= {"name": str(tmp_path / "gone.npz"), "checksum": moved.checksum}
        paths.append(tmp_path / f"{number}.h5")
        save_network(paths[-1], file)
    here = ("--dataset", tmp_path / "here.npz")
    short = ("--points", 3, "--match", "none,activations")
    commands = {
        "interpolate": short, "merge": ("--out", tmp_path / "m.h5"), "match": (), "correlate": (),
        "connectivity": (*short, "--draws", 2),
    }  # fmt: skip
    for command, options in commands.items():
        words = f"0.h5: its data set {tmp_path / 'gone.npz'} is gone; say where it is now with --dataset"
        outcome = call(command, *paths, *options)
        assert outcome.code == 1 and outcome.stderr.splitlines()[-1].endswith(words), outcome.stderr
        assert done(command, *paths, *options, *here).records, command
    same = done("interpolate", *networks[:2], *short).records
    assert [r["loss"] for r in done("interpolate", *paths, *short, *here).records] == [r["loss"] for r in same]


def test_merge_writes_the_midpoint(networks, tmp_path):
    out = tmp_path / "merged.h5"
    record = done("merge", *networks[:2], "--match", "none", "--correct", "none", "--out", out).records[0]
    walked = done("interpolate", *networks[:2], "--match", "none", "--points", 3).records[0]
    assert record["test_loss"] == pytest.approx(walked["loss"][1], rel=1e-6)
    assert record["test_loss_before"] == pytest.approx((walked["loss"][0] + walked["loss"][2]) / 2)
    merged, *two = (load_network(path) for path in (out, *networks[:2]))
    for path, values in merged.weights.items():
        np.testing.assert_allclose(values, np.mean([one.weights[path] for one in two], axis=0), rtol=1e-5, atol=1e-7)
    assert (merged.status, merged.seed, merged.training) == ("done", two[0].seed, two[0].training)
    assert merged.origin["made"] == "merge" and merged.origin["of"] == [str(path) for path in networks[:2]]
    assert merged.history["test_loss"] == pytest.approx([record["test_loss"]])
    assert "basiscli merge" in merged.command


def test_a_merged_network_is_one_like_any_other(networks, tmp_path):
    out = tmp_path / "merged.h5"
    record = done("merge", *networks, "--out", out).records[0]
    assert (record["networks"], record["match"], record["correct"]) == (3, "activations", "repair")
    assert record["test_accuracy"] > 0.5
    assert len(done("correlate", out, networks[0]).records) == 2
    assert done("interpolate", out, networks[0], "--points", 3, "--match", "none").records
    call("merge", *networks, "--out", out).refused("merged.h5: exists")


def test_merging_a_network_with_its_permuted_copies_gives_it_back(pairs, tmp_path):
    first, _, copy = pairs["resnet"]
    record = done("merge", first, copy, copy.replace("copy", "seed0"), "--out", tmp_path / "m.h5").records[0]
    assert record["correct"] == "reset-bn"
    done("merge", first, copy, "--correct", "none", "--out", tmp_path / "plain.h5")
    merged, one = (load_network(path) for path in (tmp_path / "plain.h5", first))
    for path, values in one.weights.items():
        np.testing.assert_allclose(merged.weights[path], values, rtol=1e-5, atol=1e-6)
