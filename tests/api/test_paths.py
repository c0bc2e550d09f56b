"""Matching, walking and rotating in a program: the numbers of the command line, and planted answers."""

import matplotlib.figure
import numpy as np
import pytest

import basiscli
from tests.helpers.command_line import done


@pytest.mark.parametrize("by", ["weights", "activations", "both"])
def test_matching_is_that_of_the_command(networks, by):
    *groups, total = done("match", networks[0], networks[1], "--by", by).records
    found = basiscli.match(networks[0], basiscli.load(networks[1]), by=by)
    assert found.objective == (total["objective_before"], total["objective_after"])
    assert (found.correlation is None) == (total["correlation_after"] is None)
    assert found.logit_difference == total["logit_difference"]
    assert [row["group"] for row in found.table()] == [one["group"] for one in groups] + ["all"]


def test_a_planted_permutation_is_undone(networks):
    a = basiscli.load(networks[0])
    order = {group: np.random.default_rng(k).permutation(units) for k, (group, units) in enumerate(a.groups.items())}
    found = basiscli.match(a, a.permute(order))
    for group, p in found.permutations.items():
        np.testing.assert_array_equal(order[group][p], np.arange(len(p)))
    for path, values in a.weights.items():
        np.testing.assert_array_equal(found.network.weights[path], values)
    assert "hidden1" in found._repr_html_() and "hidden1" in repr(found)


def test_interpolation_is_that_of_the_command(networks):
    options = ("--match", "none,activations", "--correct", "none,repair", "--points", 5, "--samples", 150)
    expected = done("interpolate", networks[0], networks[1], *options).records
    found = basiscli.interpolate(
        *networks[:2], match=("none", "activations"), correct=("none", "repair"), points=5, samples=150
    )
    assert list(found.curves) == [(one["match"], one["correct"]) for one in expected]
    for one in expected:
        curve = found.curves[one["match"], one["correct"]]
        assert curve.loss.tolist() == one["loss"] and curve.accuracy.tolist() == one["accuracy"]
        assert found.barriers[one["match"], one["correct"]] == one["barrier"]
    assert isinstance(found.plot(), matplotlib.figure.Figure)
    assert "repair" in found._repr_html_()


def test_a_network_and_its_permuted_copy_have_no_barrier_once_matched(networks):
    a = basiscli.load(networks[0])
    b = a.permute({group: np.arange(units)[::-1] for group, units in a.groups.items()})
    barriers = basiscli.interpolate(a, b, match=("none", "weights"), points=5, samples=200).barriers
    assert barriers["none", "none"] > 0.1
    assert barriers["weights", "none"] == pytest.approx(0, abs=1e-5)


def test_rotations_are_those_of_the_command(networks, tmp_path):
    options = ("--layer", "hidden2", "--kind", "permutation", "--repeats", 1, "--epochs", 1)
    expected = done("rotate", *networks[:2], *options, "--out", tmp_path / "command").records
    asked = {"layers": "hidden2", "kinds": ["permutation"], "repeats": 1, "epochs": 1}
    kept = basiscli.rotate(networks[:2], out=tmp_path / "program", **asked)
    assert list(kept.records) == expected
    in_memory = [basiscli.load(path).permute({}) for path in networks[:2]]
    assert list(basiscli.rotate(in_memory, **asked).records) == expected
    assert (tmp_path / "program/pre-downstream-reinit/hidden2/permutation/seed0-repeat0.h5").exists()
    assert isinstance(kept.plot(), matplotlib.figure.Figure)
    assert kept.table()[0]["layer"] == "hidden2" and "hidden2" in kept._repr_html_()


@pytest.mark.parametrize(
    "said, function, options",
    [
        ("`by` is 'luck'", "match", {"by": "luck"}),
        ("`restarts` is 0", "match", {"restarts": 0}),
        ("`match` is 'luck'", "interpolate", {"match": ["none", "luck"]}),
        ("`correct` is empty", "interpolate", {"correct": ()}),
        ("`points` is 4", "interpolate", {"points": 4}),
        ("`split` is 'all'", "interpolate", {"split": "all"}),
        ("`temperature` is nan", "interpolate", {"temperature": float("nan")}),
        ("reset-bn: the networks have no BatchNorm", "interpolate", {"correct": "reset-bn"}),
    ],
)
def test_misuse_is_named(networks, said, function, options):
    with pytest.raises(basiscli.BadInput) as caught:
        getattr(basiscli, function)(networks[0], networks[1], **options)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "said, options",
    [
        ("`kinds` is 'sideways'", {"kinds": ["sideways"]}),
        ("`powers` is (0.0,)", {"powers": (0,)}),
        ("`powers` is (0.5,)", {"powers": (0.5,), "kinds": ["permutation"]}),
        ("`repeats` is 0", {"repeats": 0}),
        ("`retrain` is 'all'", {"retrain": "all"}),
    ],
)
def test_misuse_of_rotations_is_named(networks, said, options):
    with pytest.raises(basiscli.BadInput) as caught:
        basiscli.rotate(networks, **options)
    assert str(caught.value).startswith(said)


def test_what_is_no_network_is_named(networks):
    with pytest.raises(basiscli.BadInput, match="b is a int"):
        basiscli.match(networks[0], 3)
    with pytest.raises(basiscli.BadInput, match="`networks` is no list"):
        basiscli.rotate(networks[0])
