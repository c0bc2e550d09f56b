"""The matrices: orthogonal, Haar, powers that compose, symmetries of ReLU; what a ReLU layer cannot restore."""

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import kstest

from basiscli.analysis import random_maps
from basiscli.analysis.random_maps import IDENTITY, KINDS, ORTHOGONAL, PERMUTATION, SIGNED, SYMMETRY, draw
from basiscli.rng import generator


def drawn(kind, units, count, power=1.0):
    return np.stack([draw(kind, generator(k, "test", kind), units, power) for k in range(count)])


@pytest.mark.parametrize("units", [1, 2, 5, 64])
def test_a_rotation_is_orthogonal_and_proper_and_so_are_its_powers(units):
    for power in (1.0, 0.5, 0.1):
        for m in drawn(ORTHOGONAL, units, 5, power):
            np.testing.assert_allclose(m @ m.T, np.eye(units), atol=1e-10)
            np.testing.assert_allclose(np.linalg.det(m), 1)


def test_rotations_are_uniform():
    """Moments of the entries, E m² = 1/n and E m⁴ = 3/(n (n + 2)), and of the trace; the angle of a plane."""
    n, count = 6, 3000
    ms = drawn(ORTHOGONAL, n, count)
    np.testing.assert_allclose(ms.mean(axis=0), 0, atol=5 / np.sqrt(count * n))
    np.testing.assert_allclose((ms**2).mean(axis=0), 1 / n, rtol=0.15)
    np.testing.assert_allclose((ms**4).mean(), 3 / (n * (n + 2)), rtol=0.03)
    traces = np.trace(ms, axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.1 and traces.var() == pytest.approx(1, rel=0.1)
    angles = np.array([np.arctan2(m[1, 0], m[0, 0]) for m in drawn(ORTHOGONAL, 2, 500)])
    assert kstest((angles + np.pi) / (2 * np.pi), "uniform").pvalue > 0.01


def test_the_angles_of_the_eigenvalues_are_those_of_uniform_rotations():
    """One of the n/2 angles in (0, π) of each matrix has the density (n - 1 + sin((n - 1) θ) / sin θ) / (π n).

    So in SO(n) for even n (Katz and Sarnak 1999); angles of one matrix repel, so only one of each is taken.
    """
    n, rng = 6, generator(0, "which")
    angles = np.array([rng.choice(np.unique(np.abs(np.angle(np.linalg.eigvals(m))).round(9))) for m in
                       drawn(ORTHOGONAL, n, 2000)])  # fmt: skip
    theta = np.linspace(0, np.pi, 2002)[1:-1]
    density = (n - 1 + np.sin((n - 1) * theta) / np.sin(theta)) / (np.pi * n)
    summed = np.concatenate([[0], np.cumsum(density)]) * (theta[1] - theta[0])
    assert summed[-1] == pytest.approx(1, abs=2e-3)
    assert kstest(angles, lambda t: np.interp(t, np.append(theta, np.pi), summed)).pvalue > 0.01
    assert kstest(angles, lambda t: t / np.pi).pvalue < 1e-3


def test_powers_compose_and_scale_the_angles():
    m = draw(ORTHOGONAL, generator(0, "m"), 7)
    half, third = random_maps.matrix_power(m, 0.5), random_maps.matrix_power(m, 1 / 3)
    np.testing.assert_allclose(half @ half, m, atol=1e-10)
    np.testing.assert_allclose(third @ random_maps.matrix_power(m, 2 / 3), m, atol=1e-10)
    assert random_maps.matrix_power(m, 1) is m
    angles = [np.sort(np.angle(np.linalg.eigvals(x))) for x in (half, m)]
    np.testing.assert_allclose(2 * angles[0], angles[1], atol=1e-10)
    near = random_maps.matrix_power(m, 0.01)
    assert np.abs(near - np.eye(7)).max() < 0.05


def test_the_other_kinds_are_what_they_are_called():
    assert (draw(IDENTITY, generator(0, "m"), 4) == np.eye(4)).all()
    for m in drawn(PERMUTATION, 9, 20):
        assert (np.sort(m.argmax(axis=0)) == np.arange(9)).all() and np.count_nonzero(m) == 9 == m.sum()
    signed = drawn(SIGNED, 9, 20)
    assert (np.abs(signed).sum(axis=1) == 1).all() and {-1, 0, 1} == set(np.unique(signed))
    assert len({m.tobytes() for m in drawn(PERMUTATION, 9, 20)}) == 20


def test_the_symmetry_passes_through_relu_and_keeps_the_mean_square():
    x = generator(0, "x").standard_normal((9, 50))
    for kind in KINDS:
        m = draw(kind, generator(1, "m"), 9)
        same = np.allclose(np.maximum(m @ x, 0), m @ np.maximum(x, 0))
        assert same == (kind in (PERMUTATION, SYMMETRY, IDENTITY)), kind
    scales = drawn(SYMMETRY, 400, 10).sum(axis=2)
    assert scales.min() > 0 and (scales**2).mean() == pytest.approx(1, rel=0.1)


def test_the_reconstruction_error_is_that_of_the_best_activations_that_are_not_negative():
    rng = generator(0, "h")
    h = np.maximum(rng.standard_normal((30, 5)), 0)
    ms = np.stack([draw(kind, rng, 5) for kind in (ORTHOGONAL, PERMUTATION, SIGNED)])
    best = [sum(nnls(m, row)[1] ** 2 for row in h) / (h**2).sum() for m in ms]
    found = random_maps.reconstruction_errors([h[:7].reshape(1, 7, 5), h[7:]], ms)
    np.testing.assert_allclose(found, best, atol=1e-12)
    assert found[0] > 0.1 and found[1] == 0 and found[2] > 0.1
    assert random_maps.reconstruction_errors([np.zeros((2, 5))], ms).tolist() == [0, 0, 0]
