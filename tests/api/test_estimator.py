"""The estimator: partners of some samples, scored on others."""

import numpy as np
import pytest

import basiscli
from basiscli.analysis.moments import halves
from tests.helpers.features import relu_features

X, Y = relu_features(0), relu_features(1, units=9)


def test_fitting_one_half_and_scoring_the_other_is_the_held_out_score():
    second = halves(len(X), 1, 0)
    scores = [basiscli.BasisCorrelation().fit(X[fit], Y[fit]).score(X[~fit], Y[~fit]) for fit in (second, ~second)]
    assert np.mean(scores) == pytest.approx(basiscli.correlate(X, Y, null=None).matched_held_out, abs=1e-6)


@pytest.mark.parametrize("dead", ["zero", "drop"])
def test_a_permuted_copy_scores_one_though_units_live_on_one_half_only(dead):
    x = X.copy()
    x[:200, 0] = 0
    x[200:, 1] = 3
    order = np.random.default_rng(0).permutation(12)
    model = basiscli.BasisCorrelation(dead).fit(x[:200], x[:200][:, order])
    assert model.score(x[200:], x[200:][:, order]) == pytest.approx(1, abs=1e-6)
    assert (model.permutation_[0] == -1) == (dead == "drop")


def test_transform_brings_units_into_order():
    order = np.random.default_rng(0).permutation(12)
    model = basiscli.BasisCorrelation().fit(X, X[:, order])
    np.testing.assert_array_equal(model.transform(X[:, order]), X)
    with pytest.raises(basiscli.BadInput, match="no partner"):
        basiscli.BasisCorrelation().fit(X, Y).transform(Y)


def test_misuse_is_named():
    with pytest.raises(basiscli.BadInput, match="fit"):
        basiscli.BasisCorrelation().score(X, Y)
    with pytest.raises(basiscli.BadInput, match="y has 12 units, fit saw 9"):
        basiscli.BasisCorrelation().fit(X, Y).score(X, X)
    with pytest.raises(basiscli.BadInput, match="dead"):
        basiscli.BasisCorrelation("maybe").fit(X, Y)


def test_scikit_learn_can_clone_it():
    model = basiscli.BasisCorrelation("drop")
    assert type(model)(**model.get_params()).dead == "drop"
    assert model.set_params(dead="zero").dead == "zero"
    with pytest.raises(basiscli.BadInput, match="life"):
        model.set_params(life=1)
