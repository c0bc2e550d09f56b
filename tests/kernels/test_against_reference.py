"""Every compiled kernel gives what the float64 reference gives, on odd shapes and with several seeds."""

import inspect

import numpy as np
import pytest

from basiscli.kernels import cpu, of, reference
from basiscli.rng import generator
from tests.helpers.kernels import CONVOLUTIONS, DENSE_SHAPES, OVERLAPPING, UNIT_SHAPES, assert_same, draw


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


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_convolution(shape):
    seeds, samples, height, width, inputs, outputs, *kernel, stride, padding = shape
    x, w = draw(seeds, samples, height, width, inputs), draw(seeds, *kernel, inputs, outputs, stream="w")
    dy = draw(*reference.convolution(x, w, stride, padding).shape, stream="dy")
    assert_same("convolution", x, w, stride, padding, tolerance=3e-5)
    assert_same("convolution", x[:1], w, stride, padding, tolerance=3e-5)
    assert_same("convolution_input_gradient", dy, w, stride, padding, (height, width), tolerance=3e-5)
    assert_same("convolution_weight_gradient", x, dy, stride, padding, tuple(kernel), tolerance=1e-4)
    assert_same("convolution_weight_gradient", x[:1], dy, stride, padding, tuple(kernel), tolerance=1e-4)


def test_convolution_of_an_image_is_the_sum_over_its_kernel():
    x, w = draw(1, 1, 4, 5, 2), draw(1, 3, 3, 2, 3, stream="w")
    y = reference.convolution(x, w, 1, 1)
    expected = sum(x[0, 0, 1 + k, 2 + l] @ w[0, k + 1, l + 1] for k in (-1, 0, 1) for l in (-1, 0, 1))
    np.testing.assert_allclose(y[0, 0, 1, 2], expected, rtol=1e-5)


def test_convolution_weight_gradient_into_views_of_flat_parameters():
    x, dy = draw(2, 3, 5, 5, 4), draw(2, 3, 5, 5, 6, stream="dy")
    flat = np.zeros((2, 400), np.float32)
    view = flat[:, 32 : 32 + 216].reshape(2, 3, 3, 4, 6)
    cpu.convolution_weight_gradient(x, dy, 1, 1, (3, 3), view)
    np.testing.assert_allclose(view, reference.convolution_weight_gradient(x, dy, 1, 1, (3, 3)), atol=1e-4)
    assert not flat[:, :32].any() and not flat[:, 248:].any()


@pytest.mark.parametrize("shape, size", [((1, 1, 2, 2, 1), 2), ((2, 3, 6, 9, 17), 3), ((2, 2, 4, 4, 16), 4)])
def test_pooling(shape, size):
    x = draw(*shape)
    y, argmax = reference.max_pool(x, size, size, 0)
    dy = draw(*y.shape, stream="dy")
    assert_same("max_pool", x, size, size, 0)
    assert_same("max_pool_gradient", dy, argmax, x.shape, size, size, 0)
    assert_same("average_pool", x, size)
    assert_same("average_pool_gradient", dy, size)
    assert_same("global_pool", x)
    assert_same("global_pool_gradient", dy[:, :, 0, 0], shape[2:4])


@pytest.mark.parametrize("window", OVERLAPPING)
@pytest.mark.parametrize("shape", [(1, 1, 3, 3, 1), (2, 3, 9, 7, 17), (2, 2, 8, 11, 5)])
def test_max_pool_of_windows_that_overlap_or_leave_a_rest(shape, window):
    x = draw(*shape)
    x[:, :, 1] = x[:, :, 0]  # the first of equals counts
    y, argmax = reference.max_pool(x, *window)
    assert_same("max_pool", x, *window)
    assert_same("max_pool_gradient", draw(*y.shape, stream="dy"), argmax, shape, *window)


def test_max_pool_of_equals_and_of_nan():
    x = np.zeros((1, 1, 2, 4, 1), np.float32)
    x[0, 0, 1, 2:] = np.nan
    for kernel in (cpu, reference):
        y, argmax = kernel.max_pool(x, 2, 2, 0)
        np.testing.assert_array_equal(y.ravel(), [0, np.nan])
        np.testing.assert_array_equal(argmax.ravel(), [0, 2])


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_subsample(stride):
    x = draw(2, 3, 7, 4, 5)
    dy = draw(*reference.subsample(x, stride, 8).shape, stream="dy")
    assert_same("subsample", x, stride, 8)
    assert_same("subsample_gradient", dy, stride, x.shape)


def test_sums():
    x, y, b = draw(2, 5, 3, 2, 70), draw(2, 5, 3, 2, 70, stream="y"), draw(2, 70)
    assert_same("add", x, y)
    assert_same("add_units", x.copy(), b)
    assert cpu.add_units(x, b) is x


def test_dropout():
    x, stream = np.ones((2, 300, 200), np.float32), np.array([[5, 1], [2**24 - 1, 70]], np.float32)
    assert_same("dropout", x, stream, 0.3)
    y = cpu.dropout(x, stream, 0.3)
    np.testing.assert_allclose(y.mean(axis=(1, 2)), 1, atol=0.01)  # 3.7 standard deviations
    assert (y[1] == cpu.dropout(x[1:], stream[1:], 0.3)[0]).all(), "the mask depends on the other seeds"
    assert np.mean(y[0] == y[1]) < 0.6  # independent masks agree in 0.58
    assert np.mean(y[0] == cpu.dropout(x[:1], stream[:1] + np.array([0, 1], np.float32), 0.3)[0]) < 0.6


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
    assert_same("power_sums", dy, shift)
    assert_same("batchnorm", x, scale, shift, 1e-3, tolerance=1e-5)
    assert_same("layernorm", x, scale, shift, 1e-3, tolerance=1e-5)
    assert_same("normalise", x, shift, scale**2, scale, shift, 1e-3, tolerance=1e-5)
    _, mean, variance = reference.batchnorm(x.astype(np.float64), scale, shift, 1e-3)
    mean, variance = mean.astype(np.float32), variance.astype(np.float32)
    assert_same("batchnorm_gradient", dy, x, mean, variance, scale, 1e-3, tolerance=3e-5)
    z = reference.normalise(x.astype(np.float64), mean, variance, scale, shift, 1e-3)
    assert np.abs(z).min() > 1e-6, "the test's ReLU must not hang on rounding"
    assert_same("batchnorm_relu", x, scale, shift, 1e-3, tolerance=1e-5)
    assert_same("batchnorm_relu", x, scale, shift, 1e-3, dy, tolerance=1e-5)
    assert_same("normalise_relu", x, shift, scale**2, scale, shift, 1e-3, dy, tolerance=1e-5)
    assert_same("batchnorm_relu_gradient", dy, x, mean, variance, scale, shift, 1e-3, tolerance=3e-5)
    assert_same("layernorm_gradient", dy, x, scale, 1e-3, tolerance=3e-5)


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 17, 10), (2, 300, 5)])
@pytest.mark.parametrize("shared", [False, True])
def test_cross_entropy(shape, shared):
    labels = generator(1, "labels").integers(0, shape[2], (1 if shared else shape[0], shape[1]))
    assert_same("cross_entropy", 20 * draw(*shape), labels)
    assert_same("cross_entropy", draw(*shape), labels, 0.1)


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


@pytest.mark.parametrize("hole", [0, 2, 3])
def test_gather_mirrors_and_cuts(hole):
    rng = generator(3, "images")
    images = rng.integers(0, 200, (6, 5, 4, 3)).astype(np.uint8)
    index, moves = rng.integers(0, 6, (2, 40)), rng.integers(-2, 3, (2, 40, 5))
    moves[..., 2], moves[..., 3:] = rng.integers(0, 2, (2, 40)), rng.integers(0, 4, (2, 40, 2))
    mean, inverse = np.array([1.0, 2, 3], np.float32), np.array([0.5, 0.25, 0.1], np.float32)
    assert_same("gather", images, index, moves, mean, inverse, hole)
    mirrored = cpu.gather(images, index, np.broadcast_to([0, 0, 1, 1, 1], moves.shape), mean * 0, mean * 0 + 1, hole)
    expected = images[index][:, :, :, ::-1].astype(np.float32)
    expected[:, :, 1 - hole // 2 : 1 - hole // 2 + hole, 1 - hole // 2 : 1 - hole // 2 + hole] = 0
    np.testing.assert_array_equal(mirrored, expected)
