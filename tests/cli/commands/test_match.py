"""`basiscli match` through its command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from basiscli.alignment import matching
from basiscli.files import hdf5
from basiscli.files.networks import load, load_network, save_network
from basiscli.nn.unit_groups import unit_groups
from tests.helpers.command_line import call, done, shell

FIELDS = [
    "a", "b", "by", "group", "units", "layers", "moved", "objective_before", "objective_after", "correlation_before",
    "correlation_after", "iterations", "agreed", "restarts", "logit_difference",
]  # fmt: skip


@pytest.fixture(scope="module")
def copy(networks, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """The first network with its units in another order, and the permutation that undoes it."""
    loaded = load(networks[0])
    rng = np.random.default_rng(0)
    hidden = {group: rng.permutation(units) for group, units in unit_groups(loaded.network).groups.items()}
    moved, _ = matching.apply(loaded, hidden, matching.proof_images(loaded))
    path = tmp_path_factory.mktemp("copy") / "copy.h5"
    save_network(path, moved.file)
    return path, {group: np.argsort(p) for group, p in hidden.items()}


@pytest.mark.parametrize("by", ["activations", "weights", "both"])
def test_a_permuted_copy_is_written_back_in_its_old_order(networks, copy, tmp_path, by):
    path, answer = copy
    out, kept = tmp_path / "back.h5", tmp_path / "p.h5"
    records = done("match", networks[0], path, "--by", by, "--out", kept, "--apply", out).records
    assert [record["group"] for record in records] == ["hidden1", "hidden2", "all"]
    for record in records:
        assert list(record) == [*FIELDS, "path"] and record["path"] == str(out) and record["by"] == by
        assert record["objective_after"] == pytest.approx(1, abs=1e-5) and record["logit_difference"] < 1e-5
        assert (record["restarts"], record["correlation_after"] is None) == ((0, False), (8, True), (8, False))[
            ("activations", "weights", "both").index(by)
        ]
    found = load_network(out)
    for name, values in load_network(networks[0]).weights.items():
        np.testing.assert_array_equal(found.weights[name], values, err_msg=name)
    assert found.origin == {"made": "match", "of": [str(networks[0]), str(path)], "by": by}
    with hdf5.reading(kept) as file:
        stored = file.arrays("permutations/1")
    assert all(np.array_equal(stored[group], p) for group, p in answer.items())


def test_permutations_from_a_file_do_what_they_did(networks, tmp_path):
    kept, first, second = tmp_path / "p.h5", tmp_path / "1.h5", tmp_path / "2.h5"
    before = done("match", *networks[:2], "--by", "weights", "--out", kept, "--apply", first).records
    after = done("match", *networks[:2], "--by", kept, "--apply", second).records
    for old, new in zip(before, after, strict=True):
        for field in ("group", "moved", "objective_before", "objective_after", "logit_difference"):
            assert old[field] == new[field]
    mine, theirs = load_network(first).weights, load_network(second).weights
    assert all(np.array_equal(values, theirs[path]) for path, values in mine.items())


def test_several_networks_are_matched_to_the_first(networks, tmp_path):
    kept = tmp_path / "p.h5"
    records = done("match", *networks, "--out", kept, "--apply", tmp_path).records
    assert [(record["b"], record["group"]) for record in records] == [
        (str(path), group) for path in networks[1:] for group in ("hidden1", "hidden2", "all")
    ]
    for record in records:
        assert record["a"] == str(networks[0]) and record["correlation_after"] > record["correlation_before"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.h5", "seed1.h5", "seed2.h5"]
    alone = done("match", networks[0], networks[2]).records
    assert alone[2]["correlation_after"] == pytest.approx(records[5]["correlation_after"], abs=1e-5)
    again = done("match", networks[1], networks[2], "--by", kept).records
    assert {record["by"] for record in again} == {str(kept)}


def test_matched_networks_correlate_more_unit_by_unit(networks, tmp_path):
    done("match", *networks[:2], "--split", "test", "--apply", tmp_path / "b.h5")
    before, after = (call("correlate", networks[0], b).records for b in (networks[1], tmp_path / "b.h5"))
    for old, new in zip(before, after, strict=True):
        assert new["identity"] > old["identity"]
        assert new["identity"] == pytest.approx(new["matched"], abs=1e-4)
        assert new["matched"] == pytest.approx(old["matched"], abs=1e-4)


def test_options_change_what_is_matched(networks):
    def moved(*options: object) -> tuple:
        return tuple(record["objective_after"] for record in done("match", *networks[:2], *options).records)

    ways = [(), ("--similarity", "product"), ("--split", "test-shifts"), ("--samples", 50)]
    weights = [
        ("--by", "weights"),
        ("--by", "weights", "--from-init"),
        ("--by", "weights", "--restarts", 1, "--seed", 2),
    ]
    found = [moved(*options) for options in (*ways, *weights)]
    assert len(set(found)) == len(found)
    assert moved("--by", "weights", "--restarts", 12)[-1] >= found[-3][-1]


def test_a_table_fits_80_columns(networks):
    text = done("match", *networks[:2], "--by", "both", "--format", "table").stdout
    assert max(map(len, text.splitlines())) <= 80 and "hidden2" in text and " to " in text


def test_it_stands_in_a_pipe(tmp_path):
    script = (
        "basiscli train --seeds 2 --epochs 1 --width 16 --depth 2 --out n 2>/dev/null\n"
        "ls n/*.h5 | basiscli match - --apply n/matched.h5 | basiscli correlate n/seed0.h5 - --layer hidden1"
    )
    finished = shell(script, tmp_path)
    assert finished.returncode == 0, finished.stderr
    (record,) = (json.loads(line) for line in finished.stdout.splitlines() if line.startswith('{"a"'))
    assert record["b"] == "n/matched.h5" and record["layer"] == "hidden1"


def test_what_cannot_be_matched_is_refused_and_nothing_is_written(networks, tmp_path):
    wide = call("train", "--epochs", 0, "--width", 25, "--depth", 2, "--out", tmp_path / "wide")
    assert wide.code == 0
    out = tmp_path / "out.h5"
    call("match", networks[0], tmp_path / "wide/seed0.h5", "--apply", out).refused("has hidden [25, 25]", "one to one")
    call("match", networks[0], networks[1], "--by", networks[0], "--apply", out).refused("holds no permutations")
    call("match", networks[0], tmp_path / "no.h5", "--apply", out).refused("no.h5: no such file")
    call("match", *networks[:2], "--dataset", "nonsense", "--apply", out).refused("nonsense")
    broken = load_network(networks[1])
    broken.weights["hidden1/w"][0, 0] = np.nan
    save_network(tmp_path / "nan.h5", broken)
    for by in ("activations", "weights"):
        command = ("match", networks[0], tmp_path / "nan.h5", "--by", by, "--apply", out)
        call(*command).refused("nan.h5: hidden1/w holds values that are not finite; leave the network out")
    assert not out.exists()
    out.write_bytes(b"mine")
    call("match", *networks[:2], "--apply", out).refused("out.h5: exists")
    call("match", *networks[:2], "--out", out).refused("out.h5: exists")
    assert out.read_bytes() == b"mine"


def test_a_permutation_of_other_networks_is_used_with_a_word(networks, tmp_path):
    kept = tmp_path / "p.h5"
    done("match", *networks[:2], "--out", kept)
    assert not done("match", *networks[:2], "--by", kept).stderr
    line = f"basiscli: {kept}: was made for {networks[0]} and {networks[1]}; used for {networks[0]} and {networks[2]}"
    assert done("match", networks[0], networks[2], "--by", kept).stderr.splitlines() == [line]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("seed0.h5",), "two networks or more"),
        (("seed0.h5", "./seed0.h5"), "named twice counts once"),
        (("seed0.h5", "seed1.h5", "--out", "x.h5", "--apply", "./x.h5"), "--out and --apply are one file"),
        (("seed0.h5", "seed1.h5", "--by", "nonsense"), "'nonsense' is none of activations, weights, both"),
        (("seed0.h5", "seed1.h5", "--restarts", 0), "--restarts"),
        (("seed0.h5", "seed1.h5", "seed2.h5", "--apply", "x.h5"), "name an existing folder"),
        (("seed0.h5", "a/seed1.h5", "b/seed1.h5", "--apply", "."), "the same file name"),
        (("seed0.h5", "seed1.h5", "--from-init"), "--from-init is about weights"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, words):
    call("match", *arguments).refused(words, code=2)
