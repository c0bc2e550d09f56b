"""What `correlate` reports beyond the scores: fields, summaries, and agreement with the parts."""

import numpy as np
import pytest

from basiscli.analysis import nulls, pairs, similarity
from basiscli.analysis.assess import Request, assess, explain, has_interval, summarise, without_arrays
from basiscli.analysis.similarity import SIMILARITIES
from tests.helpers.features import relu_features
from tests.helpers.memory import MemorySource


def layer_of(*arrays: np.ndarray):
    sources = [MemorySource(f"{k}.h5", {"h": array}) for k, array in enumerate(arrays)]
    (found,) = pairs.layer_moments(sources, seed=0, full=True)
    return found


def test_scores_alone():
    (one,) = assess(layer_of(relu_features(0), relu_features(1)), Request())
    assert list(one.fields) == ["identity", "matched", "matched_held_out", "semi_matched"]
    assert not Request().full
    assert Request(nulls=("shuffled",)).full


def test_everything_at_once():
    a, b = relu_features(0), relu_features(1)
    found = layer_of(a, b)
    request = Request(("rotated", "shuffled"), 10, tuple(SIMILARITIES), seed=3)
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
    assert one.fields["privilege_b"] == nulls.privilege(whole.own[1], 10, 3).excess
    for name, about in SIMILARITIES.items():
        assert one.fields[name.replace("-", "_")] == about.function(whole)


def test_dropping_dead_units_drops_them_everywhere():
    a = relu_features(0)
    dead = np.hstack([a, np.zeros((len(a), 4))])
    (one,) = assess(layer_of(a, dead), Request(similarities=("soft-matching",), drop_dead=True))
    assert one.fields["soft_matching"] == pytest.approx(1, abs=1e-5)
    (one,) = assess(layer_of(a, dead), Request(similarities=("soft-matching",)))
    assert one.fields["soft_matching"] == pytest.approx(12 / 16, abs=1e-5)


def test_all_pairs_of_many_networks():
    """Noisy copies of one network: the mean over pairs and its interval, which shrinks to a point without noise."""
    rng = np.random.default_rng(0)
    base = relu_features(0)
    noisy = [base[:, rng.permutation(12)] + rng.uniform(0.2, 1) * rng.standard_normal(base.shape) for _ in range(4)]
    assessed = list(assess(layer_of(*noisy), Request(("rotated",), 10)))
    assert [(one.pair.a, one.pair.b) for one in assessed] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    summary = summarise(assessed, seed=0)
    assert summary["matched"] == pytest.approx(np.mean([one.fields["matched"] for one in assessed]))
    assert summary["matched_low"] < summary["matched"] < summary["matched_high"]
    assert "rotated_held_out_excess_low" in summary
    assert "rotated_z_low" not in summary
    exact = summarise(list(assess(layer_of(*[base] * 4), Request())), seed=0)
    assert exact["matched_high"] - exact["matched_low"] < 1e-6


def test_a_single_network():
    (one,) = assess(layer_of(relu_features(0)), Request(("rotated",), 10))
    assert one.fields["matched"] == pytest.approx(1, abs=1e-6)
    assert one.fields["rotated_excess"] > 0.1
    assert one.fields["privilege_a"] == one.fields["privilege_b"]


def test_without_arrays():
    (one,) = assess(layer_of(relu_features(0), relu_features(1)), Request())
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
