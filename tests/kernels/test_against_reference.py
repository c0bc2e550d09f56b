"""Every compiled kernel gives what the float64 reference gives, on odd shapes and with several seeds."""

import inspect

import numpy as np
import pytest

from basiscli.kernels import cpu, of, reference
from basiscli.rng import generator

# S seeds, N samples, I input and O output units: ones, primes, a whole tile and one more, a sum in several pieces.
DENSE_SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (3, 17, 33, 65), (1, 128, 16, 10), (2, 31, 2100, 19), (1, 64, 49, 48)]
UNIT_SHAPES = [(1, 1, 1), (2, 7, 3), (3, 129, 65), (2, 5, 3, 2, 70)]


def draw(*shape, stream="kernels"):
    return generator(0, stream, *shape).standard_normal(shape).astype(np.float32)


def assert_same(name, *arguments, tolerance=2e-6):
    """Compare a kernel's results with the reference's in float64, relative to the largest value."""
    exact = [a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a for a in arguments]
    got, expected = getattr(cpu, name)(*arguments), getattr(reference, name)(*exact)
    for a, b in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance, err_msg=name)


def test_the_kernels_of_an_array():
    assert of(np.zeros(1, np.float32)) is cpu
    assert of(np.zeros(1, np.float64)) is reference


def test_same_names_and_signatures():
    for name in cpu.__all__:
        assert inspect.signature(getattr(cpu, name)) == inspect.signature(getattr(reference, name)), name
    public = {name for name, f in vars(reference).items() if inspect.isfunction(f) and not name.startswith("_")}
    assert public == set(cpu.__all__)


@pytest.mark.parametrize("shape", DENSE_SHAPES)
def test_dense(shape):
    seeds, samples, inputs, outputs = shape
    x, w, b = draw(seeds, samples, inputs), draw(seeds, inputs, outputs, stream="w"), draw(seeds, outputs)
    dy = draw(seeds, samples, outputs, stream="dy")
    assert_same("dense", x, w, b, tolerance=1e-5)
    assert_same("dense", x[:1], w, b, tolerance=1e-5)
    assert_same("dense_input_gradient", dy, w)
    assert_same("dense_weight_gradient", x, dy)
    assert_same("dense_weight_gradient", x[:1], dy)


def test_dense_into_views_of_flat_parameters():
    x, dy = draw(2, 9, 4), draw(2, 9, 5)
    flat = np.zeros((2, 50), np.float32)
    view = flat[:, 16:36].reshape(2, 4, 5)
    cpu.dense_weight_gradient(x, dy, view)
    np.testing.assert_allclose(view, reference.dense_weight_gradient(x, dy), atol=1e-5)
    assert not flat[:, :16].any() and not flat[:, 36:].any()


def test_dense_refuses_what_is_no_matrix_of_float32():
    with pytest.raises(ValueError, match="C-contiguous"):
        cpu.dense(draw(1, 4, 3).swapaxes(1, 2), draw(1, 4, 3), draw(1, 3))


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_nonlinearities(name):
    x = np.concatenate([draw(2, 40000), np.zeros((2, 1), np.float32), np.full((2, 1), 30, np.float32)], axis=1)
    assert_same(name, x)
    assert_same(f"{name}_gradient", draw(*x.shape, stream="dy"), x)


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_nonlinearities_keep_nan(name):
    assert np.isnan(getattr(cpu, name)(np.full((1, 3), np.nan, np.float32))).all()


@pytest.mark.parametrize("shape", UNIT_SHAPES)
def test_normalisation(shape):
    seeds, units = shape[0], shape[-1]
    x, dy = 3 * draw(*shape) + 5, draw(*shape, stream="dy")
    scale, shift = draw(seeds, units), draw(seeds, units, stream="shift")
    assert_same("unit_sums", dy)
    assert_same("batchnorm", x, scale, shift, 1e-3, tolerance=1e-5)
    assert_same("layernorm", x, scale, shift, 1e-3, tolerance=1e-5)
    assert_same("normalise", x, shift, scale**2, scale, shift, 1e-3, tolerance=1e-5)
    _, mean, variance = reference.batchnorm(x.astype(np.float64), scale, shift, 1e-3)
    mean, variance = mean.astype(np.float32), variance.astype(np.float32)
    assert_same("batchnorm_gradient", dy, x, mean, variance, scale, 1e-3, tolerance=3e-5)
    assert_same("layernorm_gradient", dy, x, scale, 1e-3, tolerance=3e-5)


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 17, 10), (2, 300, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_cross_entropy(shape, shared):
    labels = generator(1, "labels").integers(0, shape[2], (1 if shared else shape[0], shape[1]))
    assert_same("cross_entropy", 20 * draw(*shape), labels)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(momentum, nesterov):
    counts, rate, factor, decay = (20000, 33000), 0.1, np.array([1.0, 0.0, 0.25]), 0.01
    theta, gradient, velocity = (draw(3, 33003, stream=name) for name in ("theta", "gradient", "velocity"))
    exact = [a.astype(np.float64) for a in (theta, gradient, velocity)]
    before = theta.copy()
    cpu.sgd(theta, gradient, velocity, counts, rate, factor, momentum, nesterov, decay)
    reference.sgd(*exact, counts, rate, factor, momentum, nesterov, decay)
    np.testing.assert_allclose(theta, exact[0], atol=1e-6)
    np.testing.assert_allclose(velocity, exact[2], atol=1e-6)
    assert (theta[:, 33000:] == before[:, 33000:]).all(), "frozen parameters moved"
    assert (theta[1] == before[1]).all(), "a stopped seed moved"


def test_adamw():
    counts, factor = (100, 300), np.array([1.0, 0.0])
    theta, gradient = draw(2, 305, stream="theta"), draw(2, 305, stream="gradient")
    first, second = draw(2, 305, stream="first"), draw(2, 305, stream="second") ** 2
    exact = [a.astype(np.float64) for a in (theta, gradient, first, second)]
    hyper = (counts, 0.01, factor, 7, 0.9, 0.999, 1e-8, 0.1)
    cpu.adamw(theta, gradient, first, second, *hyper)
    reference.adamw(*exact, *hyper)
    for got, expected in zip((theta, first, second), (exact[0], exact[2], exact[3]), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_squared_norm():
    assert_same("squared_norm", draw(3, 1000), 900)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_gather(kind):
    rng = generator(2, "images")
    images = rng.integers(0, 200, (6, 5, 4, 3)).astype(kind)
    index, shifts = rng.integers(0, 6, (2, 7)), rng.integers(-5, 6, (2, 7, 2))
    mean, inverse = np.array([1.0, 2, 3], np.float32), np.array([0.5, 0.25, 0.1], np.float32)
    assert_same("gather", images, index, shifts, mean, inverse)
    still = cpu.gather(images, index, np.zeros_like(shifts), mean, inverse)
    np.testing.assert_allclose(still, (images[index] - mean) * inverse, rtol=1e-6)
    one = cpu.gather(images, index, np.ones_like(shifts), mean * 0, mean * 0 + 1)
    np.testing.assert_array_equal(one[:, :, 1:, 1:], images[index][:, :, :-1, :-1])
    assert not one[:, :, 0].any() and not one[:, :, :, 0].any()
