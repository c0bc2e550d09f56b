"""Each similarity against an implementation of its own on the data, on planted rotations, and where it is undefined."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial

from basiscli.analysis import moments, similarity
from basiscli.analysis.correlate import compare
from basiscli.analysis.similarity import SIMILARITIES, aligned_held_out, cka_debiased
from tests.helpers.features import haar, moments_of, relu_features, split


def related(seed: int, rows: int = 600, units: tuple[int, int] = (10, 7)) -> tuple[np.ndarray, np.ndarray]:
    """Return two layers that share part of their space, with units of different sizes."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((rows, 12))
    return tuple(
        np.maximum(inputs @ rng.standard_normal((12, u)) + rng.standard_normal(u), 0) * rng.uniform(0.3, 3, u)
        for u in units
    )


def cka_from_gram_matrices(a, b):
    """HSIC of centred linear kernels, (n, n)."""
    centre = np.eye(len(a)) - 1 / len(a)
    k, l = (centre @ x @ x.T @ centre for x in (a, b))
    return np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l))


def canonical(a, b):
    """Björck and Golub (1973): QR of the data, singular values of the product of the bases."""
    (qa, _), (qb, _) = (np.linalg.qr(x - x.mean(axis=0)) for x in (a, b))
    left, rho, right = np.linalg.svd(qa.T @ qb, full_matrices=False)
    return rho, qa @ left, qb @ right.T


def svcca_from_data(a, b):
    kept = []
    for x in (a, b):
        u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        count = np.argmax(np.cumsum(s**2) >= 0.99 * np.sum(s**2)) + 1
        kept.append(u[:, :count] * s[:count])
    return canonical(*kept)[0].mean()


def pwcca_from_data(a, b):
    rho, *variates = canonical(a, b)
    found = []
    for h, x in zip(variates, (a, b), strict=True):
        weight = np.abs(h.T @ (x - x.mean(axis=0))).sum(axis=1)
        found.append(np.sum(weight * rho) / np.sum(weight))
    return np.mean(found)


def procrustes_from_data(a, b):
    a, b = (x - x.mean(axis=0) for x in (a, b))
    width = max(a.shape[1], b.shape[1])
    a, b = (np.pad(x / np.linalg.norm(x), ((0, 0), (0, width - x.shape[1]))) for x in (a, b))
    q, _ = scipy.linalg.orthogonal_procrustes(b, a)
    return 1 - np.sum((a - b @ q) ** 2) / 2


def soft_matching_from_data(a, b):
    r = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    rows, columns = r.shape
    sums = [np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))]
    marginals = np.repeat([1 / rows, 1 / columns], [rows, columns])
    return -scipy.optimize.linprog(-r.ravel(), A_eq=np.vstack(sums), b_eq=marginals).fun


REFERENCES = {
    "cka": cka_from_gram_matrices,
    "cca": lambda a, b: canonical(a, b)[0].mean(),
    "svcca": svcca_from_data,
    "pwcca": pwcca_from_data,
    "procrustes": procrustes_from_data,
    "soft-matching": soft_matching_from_data,
}


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("units", [(10, 7), (7, 10), (8, 8)], ids=str)
def test_against_the_data(name, units):
    a, b = related(1, units=units)
    found = SIMILARITIES[name].function(moments_of(a, b))
    assert found == pytest.approx(REFERENCES[name](a, b), abs=2e-4)
    assert 0.05 < found < 0.99


def unbiased_hsic(a, b):
    """Song et al. 2012, equation 5, of linear kernels."""
    n = len(a)
    k, l = (x @ x.T for x in (a, b))
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(n)
    crossed = one @ k @ one * (one @ l @ one) / ((n - 1) * (n - 2))
    return (np.sum(k * l) + crossed - 2 / (n - 2) * one @ k @ l @ one) / (n * (n - 3))


@pytest.mark.parametrize("units", [(10, 7), (30, 40)], ids=str)
def test_debiased_cka_against_the_data(units):
    """Of few rows and many units, with a large mean, merged from halves and taken from three networks."""
    a, b = (x + 5 for x in related(1, rows=60, units=units))
    expected = unbiased_hsic(a, b) / np.sqrt(unbiased_hsic(a, a) * unbiased_hsic(b, b))
    halves = split(a, b[:, :3], b, norms=True)
    assert cka_debiased(moments_of(a, b, norms=True)) == pytest.approx(expected, abs=1e-4)
    assert cka_debiased(moments.merge(halves).pair(0, 2)) == pytest.approx(expected, abs=1e-4)
    assert cka_debiased(moments.merge(halves).pair(0, 0)) == pytest.approx(1)


def test_debiased_cka_of_independent_layers_is_nothing():
    """Where CKA is 0.4, for there are fewer rows than units."""
    found = []
    for seed in range(20):
        m = moments_of(*np.random.default_rng(seed).standard_normal((2, 40, 60)), norms=True)
        found.append((similarity.cka(m), cka_debiased(m)))
    assert np.mean(found, axis=0) == pytest.approx((0.6, 0), abs=0.02)
    few = moments_of(*np.random.default_rng(0).standard_normal((2, 3, 4)), norms=True)
    assert cka_debiased(few) is cka_debiased(moments_of(0 * relu_features(0), relu_features(0), norms=True)) is None


def test_procrustes_is_what_scipy_publishes():
    a, b = related(2, units=(6, 6))
    *_, disparity = scipy.spatial.procrustes(a, b)
    assert similarity.procrustes(moments_of(a, b)) ** 2 == pytest.approx(1 - disparity, abs=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_what_is_called_invariant_is(name):
    a, b = related(3, units=(9, 9))
    maps = {
        "rotation": 3 * haar(9, 0),
        "permutation": 0.2 * np.eye(9)[np.random.default_rng(0).permutation(9)],
        "positive scale": np.diag(np.random.default_rng(0).uniform(0.2, 5, 9)),
        "any invertible": np.random.default_rng(0).standard_normal((9, 9)) + 3 * np.eye(9),
    }
    before = SIMILARITIES[name].function(moments_of(a, b))
    claimed = [kind for kind in maps if kind in SIMILARITIES[name].invariant_to]
    assert claimed
    for kind, changed in maps.items():
        after = SIMILARITIES[name].function(moments_of(a, b @ changed + 1))
        if kind in claimed:
            assert after == pytest.approx(before, abs=1e-3), kind
        elif "any invertible" not in claimed and kind == "any invertible":
            assert abs(after - before) > 0.01, kind


@pytest.mark.parametrize("name", ["cka", "cca", "svcca", "pwcca", "procrustes"])
def test_a_rotated_copy_scores_one(name):
    a = relu_features(0)
    a[:, 2] = 0  # a dead unit
    a[:, 5] = a[:, 4]  # and a duplicate: the rank is 10
    assert SIMILARITIES[name].function(moments_of(a, a @ haar(12, 1))) == pytest.approx(1, abs=1e-3)


def test_a_rotated_copy_aligns_held_out():
    a = relu_features(0)
    halves = split(a, a @ haar(12, 1))
    assert aligned_held_out(halves) == pytest.approx(1, abs=1e-3)
    assert compare(halves).matched_held_out < 0.8


def test_alignment_does_not_flatter_noise():
    rng = np.random.default_rng(0)
    found = [aligned_held_out(split(*rng.standard_normal((2, 400, 30)), seed=k)) for k in range(10)]
    assert abs(np.mean(found)) < 4 / np.sqrt(200 * 2 * 30 * 10)


@pytest.mark.parametrize("swap", [False, True])
def test_alignment_of_unequal_widths(swap):
    a = relu_features(0)
    b = (a @ haar(12, 1))[:, :12]
    wide = np.hstack([b, np.zeros((len(b), 5))]) @ haar(17, 2)
    halves = split(wide, a) if swap else split(a, wide)
    assert aligned_held_out(halves) == pytest.approx(1, abs=1e-3)


def test_alignment_with_dead_units():
    a = relu_features(0)
    a[:, 3] = 0
    assert aligned_held_out(split(a, a)) == pytest.approx(11 / 12, abs=1e-3)
    assert aligned_held_out(split(a, a), drop_dead=True) == pytest.approx(1, abs=1e-3)
    assert aligned_held_out(split(a, a)[:1]) is None


def test_alignment_of_a_copy_whose_units_live_on_one_half_only():
    """The pair is left out, as in held-out matching; beside another network the unit counts."""
    a = relu_features(0)
    a[np.ix_(~moments.halves(len(a), 1, 0), [2, 7])] = 0
    order = np.random.default_rng(1).permutation(12)
    assert aligned_held_out(split(a, a[:, order])) == pytest.approx(1, abs=1e-3)
    b = relu_features(1)
    second = ~moments.halves(len(a), 1, 0)
    parts = []
    for fit in (second, ~second):
        (x, y), (u, v) = ([t[rows] - t[rows].mean(axis=0) for t in (a, b)] for rows in (fit, ~fit))
        turned = v @ scipy.linalg.orthogonal_procrustes(y, x)[0]
        norms = np.linalg.norm(u, axis=0) * np.linalg.norm(turned, axis=0)
        norms *= x.any(axis=0)
        parts.append(np.divide((u * turned).sum(axis=0), norms, out=np.zeros(12), where=norms > 0))
    assert aligned_held_out(split(a, b)) == pytest.approx(np.mean(parts), abs=1e-3)


@pytest.mark.parametrize("name", ["cca", "pwcca"])
def test_fewer_samples_than_units_are_refused(name):
    a, b = np.random.default_rng(0).standard_normal((2, 30, 20))
    assert SIMILARITIES[name].function(moments_of(a, b)) is None
    assert SIMILARITIES[name].function(moments_of(a, b[:, :5])) is not None


@pytest.mark.parametrize("name", sorted(set(SIMILARITIES) - {"soft-matching"}))
def test_dead_layers_have_no_similarity(name):
    a = relu_features(0)
    assert SIMILARITIES[name].function(moments_of(a, 0 * a)) is None


def test_soft_matching_of_equal_widths_is_matching():
    a, b = related(4, units=(9, 9))
    assert similarity.soft_matching(moments_of(a, b)) == pytest.approx(compare(split(a, b)).matched, abs=1e-6)


def test_soft_matching_splits_a_unit_over_its_duplicates():
    a = relu_features(0)
    assert similarity.soft_matching(moments_of(a, np.hstack([a, a]))) == pytest.approx(1, abs=1e-5)


def test_soft_matching_by_linear_programme_agrees(monkeypatch):
    a, b = related(5, units=(9, 6))
    by_assignment = similarity.soft_matching(moments_of(a, b))
    monkeypatch.setattr(similarity, "COPIES", 1)
    assert similarity.soft_matching(moments_of(a, b)) == pytest.approx(by_assignment, abs=1e-6)
