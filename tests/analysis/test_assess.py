"""What `correlate` reports beyond the scores: fields, summaries, and agreement with the parts."""

import numpy as np
import pytest

from basiscli.analysis import nulls, passes, similarity
from basiscli.analysis.assess import (
    SHARE_OF,
    CorrelationRequest,
    assess,
    explain,
    has_interval,
    summarise,
    without_arrays,
)
from basiscli.analysis.similarity import OF_SPACES, SIMILARITIES
from basiscli.analysis.statistics import share
from tests.helpers.features import haar, relu_features
from tests.helpers.memory import MemorySource


def layer_of(*arrays: np.ndarray):
    sources = [MemorySource(f"{k}.h5", {"h": array}) for k, array in enumerate(arrays)]
    (found,) = passes.layer_moments(sources, passes.Reading(0, full=True, norms=True))
    return found


def test_scores_alone():
    (one,) = assess(layer_of(relu_features(0), relu_features(1)), CorrelationRequest())
    assert list(one.fields) == ["identity", "matched", "matched_held_out", "semi_matched"]
    assert not CorrelationRequest().full
    assert CorrelationRequest(nulls=("shuffled",)).full


def test_everything_at_once():
    a, b = relu_features(0), relu_features(1)
    found = layer_of(a, b)
    request = CorrelationRequest(("rotated", "shuffled"), 10, tuple(SIMILARITIES), seed=3)
    (one,) = assess(found, request)
    halves = one.pair.halves
    rotated = nulls.calibrate(one.fields["matched"], nulls.rotated(halves, 10, 3).in_sample)
    shuffled = nulls.calibrate(one.fields["matched_held_out"], nulls.shuffled(halves, 1, 10, 3).held_out)
    assert one.fields["rotated_excess"] == rotated.excess
    assert one.fields["rotated_z"] == rotated.z
    assert one.fields["shuffled_held_out_mean"] == shuffled.mean
    assert one.fields["shuffled_held_out_beaten"] == shuffled.beaten
    assert one.fields["aligned_held_out"] == similarity.aligned_held_out(halves)
    whole = halves[0] + halves[1]
    assert one.fields["privilege_b"] == nulls.privileges(whole.own, 10, 3)[1].excess
    for name, about in SIMILARITIES.items():
        assert one.fields[name.replace("-", "_")] == about.function(whole)
    assert one.fields["cka_debiased"] == similarity.cka_debiased(whole)


def test_dropping_dead_units_drops_them_everywhere():
    a = relu_features(0)
    dead = np.hstack([a, np.zeros((len(a), 4))])
    (one,) = assess(layer_of(a, dead), CorrelationRequest(similarities=("soft-matching",), drop_dead=True))
    assert one.fields["soft_matching"] == pytest.approx(1, abs=1e-5)
    (one,) = assess(layer_of(a, dead), CorrelationRequest(similarities=("soft-matching",)))
    assert one.fields["soft_matching"] == pytest.approx(12 / 16, abs=1e-5)


def test_all_pairs_of_many_networks():
    """Noisy copies of one network: the mean over pairs and its interval, which shrinks to a point without noise."""
    rng = np.random.default_rng(0)
    base = relu_features(0)
    noisy = [base[:, rng.permutation(12)] + rng.uniform(0.2, 1) * rng.standard_normal(base.shape) for _ in range(4)]
    assessed = list(assess(layer_of(*noisy), CorrelationRequest(("rotated",), 10)))
    assert [(one.pair.a, one.pair.b) for one in assessed] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    summary = summarise(assessed)
    assert summary["matched"] == pytest.approx(np.mean([one.fields["matched"] for one in assessed]))
    assert summary["matched_low"] < summary["matched"] < summary["matched_high"]
    assert "rotated_held_out_excess_low" in summary
    means = (np.mean([one.fields[name] for one in assessed]) for name in SHARE_OF)
    assert summary["share"] == pytest.approx(share(*means))
    assert summary["share_low"] < summary["share"] < summary["share_high"] and summary["share_error"] > 0
    assert "rotated_z_low" not in summary
    exact = summarise(list(assess(layer_of(*[base] * 4), CorrelationRequest())))
    assert exact["matched_high"] - exact["matched_low"] < 1e-6


def test_the_share_of_a_permuted_copy_is_one_and_of_a_rotated_one_nothing():
    """Whatever the scales of the units: the standardised null and ceiling do not see them."""
    a = relu_features(0, rows=3000, units=24, dimensions=12)
    loud = a * np.where(np.arange(24) == 3, 1000, 1)
    order = np.random.default_rng(1).permutation(24)
    turned = (a / a.std(axis=0)) @ haar(24, 1)
    (copy,) = assess(layer_of(a, loud[:, order]), CorrelationRequest(("rotated",), 10))
    assert copy.fields["share"] == pytest.approx(1, abs=1e-3)
    (rotated,) = assess(layer_of(a, turned), CorrelationRequest(("rotated",), 30))
    assert rotated.fields["standardised_aligned_held_out"] == pytest.approx(1, abs=0.01)
    assert abs(rotated.fields["standardised_rotated_held_out_z"]) < 3 and abs(rotated.fields["share"]) < 0.15
    scaled = turned * np.random.default_rng(2).uniform(0.01, 100, 24)
    (plain,), (other,) = (
        assess(layer_of(x, y), CorrelationRequest(("rotated",), 5)) for x, y in ((a, turned), (loud, scaled))
    )
    for name in (*SHARE_OF, "share"):
        assert other.fields[name] == pytest.approx(plain.fields[name], abs=1e-4), name
    assert abs(other.fields["rotated_held_out_mean"] - plain.fields["rotated_held_out_mean"]) > 0.005


def test_a_single_network():
    (one,) = assess(layer_of(relu_features(0)), CorrelationRequest(("rotated",), 10))
    assert one.fields["matched"] == pytest.approx(1, abs=1e-6)
    assert one.fields["rotated_excess"] > 0.1
    assert one.fields["privilege_a"] == one.fields["privilege_b"]


def test_without_arrays():
    (one,) = assess(layer_of(relu_features(0), relu_features(1)), CorrelationRequest())
    assert without_arrays(one).pair.scores.r.size == 0
    assert without_arrays(one, keep_r=True).pair.scores.r.shape == (12, 12)
    assert without_arrays(one).pair.halves == ()


def test_which_fields_have_intervals():
    assert has_interval("matched_held_out")
    assert has_interval("privilege_a")
    assert not has_interval("rotated_beaten")
    assert not has_interval("privilege_z_b")


def test_similarities_are_explained():
    assert "higher is more alike" in explain("cka")
    assert "rotation" in explain("procrustes")


def test_similarities_of_dead_layers_are_empty():
    found = layer_of(relu_features(0), np.zeros((len(relu_features(0)), 12)))
    (one,) = assess(found, CorrelationRequest(("shuffled",), 3, tuple(SIMILARITIES)))
    names = [name for name in one.fields if name.startswith(("cka", "cca", "svcca", "pwcca", "procrustes", "soft"))]
    assert len(names) == 32
    assert [one.fields[name] for name in names] == [None] * 32


def test_similarities_of_shuffled_samples_are_what_shuffling_gives():
    rng = np.random.default_rng(0)
    a, b = relu_features(0)[:60], relu_features(1)[:60]
    (one,) = assess(layer_of(a, b), CorrelationRequest(("shuffled",), 200, OF_SPACES))
    for name in OF_SPACES:
        function = SIMILARITIES[name].function
        halves = [layer_of(a, b[rng.permutation(60)]).halves for _ in range(60)]
        shuffled = np.array([function(x + y) for x, y in halves])
        mean, deviation = one.fields[f"{name}_shuffled_mean"], one.fields[f"{name}_shuffled_deviation"]
        assert mean == pytest.approx(shuffled.mean(), abs=4 * deviation / np.sqrt(60))
        assert deviation == pytest.approx(shuffled.std(), rel=0.35)
        assert one.fields[f"{name}_shuffled_excess"] == one.fields[name] - mean
