"""Every op's backward pass is the gradient of its forward pass, in float64 with several seeds."""

import numpy as np
import pytest

from basiscli.nn.ops import (
    add,
    average_pool,
    batchnorm,
    convolution,
    cross_entropy,
    dense,
    dropout,
    flatten,
    global_pool,
    layernorm,
    max_pool,
    pointwise,
    subsample,
)
from basiscli.rng import generator
from tests.helpers.gradients import check_gradient

S, N, C = 3, 7, 5
IMAGES = (S, 2, 7, 6, C)
CASES = {
    "dense": (dense, dense.weights(C, 4, 1.0), (S, N, C), {}),
    "flatten": (flatten, {}, (S, N, 2, 3, C), {}),
    "batchnorm": (batchnorm, batchnorm.weights(C), (S, N, C), {}),
    "batchnorm of images": (batchnorm, batchnorm.weights(C), (S, N, 2, 3, C), {}),
    "layernorm": (layernorm, layernorm.weights(C), (S, N, C), {}),
    "layernorm of images": (layernorm, layernorm.weights(C), (S, N, 2, 3, C), {}),
    "convolution 3x3": (convolution, convolution.weights(3, C, 4, 1, True), IMAGES, {"stride": 1, "padding": 1}),
    "convolution 3x3 by 2": (convolution, convolution.weights(3, C, 4, 1, False), IMAGES, {"stride": 2, "padding": 1}),
    "convolution 1x1 by 2": (convolution, convolution.weights(1, C, 6, 1, True), IMAGES, {"stride": 2, "padding": 0}),
    "convolution 5x5 by 3": (convolution, convolution.weights(5, C, 2, 1, True), IMAGES, {"stride": 3, "padding": 1}),
    "max_pool": (max_pool, {}, (S, 2, 6, 4, C), {"size": 2, "stride": 2, "padding": 0}),
    "max_pool of windows that overlap": (max_pool, {}, IMAGES, {"size": 3, "stride": 2, "padding": 1}),
    "max_pool with a rest": (max_pool, {}, IMAGES, {"size": 2, "stride": 3, "padding": 0}),
    "convolution 7x7 by 2": (convolution, convolution.weights(7, C, 3, 1, False), IMAGES, {"stride": 2, "padding": 3}),
    "average_pool": (average_pool, {}, (S, 2, 6, 9, C), {"size": 3}),
    "global_pool": (global_pool, {}, IMAGES, {}),
    "subsample": (subsample, {}, IMAGES, {"stride": 2, "units": 8}),
    "dropout": (dropout, dropout.weights(), IMAGES, {"rate": 0.4}),
    **{phi: (pointwise, {}, (S, N, C), {"function": phi}) for phi in pointwise.GAINS},
}


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_gradient(name):
    op, weights, shape, options = CASES[name]
    rng = generator(0, "gradient", name)
    point = {f"p:{k}": rng.standard_normal((S, *weight.shape)) for k, weight in weights.items() if weight.trained}
    point["x"] = rng.standard_normal(shape)
    state = {k: np.ones((S, *weight.shape)) for k, weight in weights.items() if not weight.trained}

    def forward(at):
        p = {k[2:]: values for k, values in at.items() if k.startswith("p:")}
        return op.forward(p | {k: v.copy() for k, v in state.items()}, at["x"], train=True, **options)

    y, cache = forward(point)
    dy = rng.standard_normal(y.shape)
    dp = {k[2:]: np.full(values.shape, np.nan) for k, values in point.items() if k != "x"}
    dx = op.backward(dy, cache, True, dp)
    check_gradient(
        lambda at: float((forward(at)[0] * dy).sum()), point, {f"p:{k}": v for k, v in dp.items()} | {"x": dx}
    )


def test_add_gives_its_gradient_to_both():
    x, skip, dy = (generator(0, name).standard_normal((S, N, C)) for name in ("x", "skip", "dy"))
    y, cache = add.forward({}, x, skip, train=True)
    np.testing.assert_array_equal(y, x + skip)
    for gradient in add.backward(dy, cache, True, {}):
        np.testing.assert_array_equal(gradient, dy)


def test_dropout_draws_a_mask_a_step_and_none_in_evaluation():
    x = np.ones((2, 50, 4, 4, 3))
    p = {"stream": np.array([[7.0, 0], [8.0, 0]])}
    first, _ = dropout.forward(p, x, train=True, rate=0.5)
    second, _ = dropout.forward(p, x, train=True, rate=0.5)
    assert p["stream"].tolist() == [[7, 2], [8, 2]]
    assert (first != second).any() and (first[0] != first[1]).any() and set(np.unique(first)) == {0, 2}
    again, _ = dropout.forward({"stream": np.array([[8.0, 1]])}, x[1:], train=True, rate=0.5)
    np.testing.assert_array_equal(again[0], second[1])
    assert dropout.forward(p, x, train=False, rate=0.5) == (x, None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    rng = generator(0, "gradient", "cross_entropy")
    logits, labels = 3 * rng.standard_normal((S, N, C)), rng.integers(0, C, (S, N))
    weights = rng.standard_normal(S)
    _, _, cache = cross_entropy.forward(logits, labels, smoothing)
    gradient = cross_entropy.backward(cache) * weights[:, None, None]
    check_gradient(
        lambda at: float(cross_entropy.forward(at["logits"], labels, smoothing)[0] @ weights),
        {"logits": logits},
        {"logits": gradient},
    )


def test_cross_entropy_of_known_values():
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]]))
    loss, hits, _ = cross_entropy.forward(logits, np.array([[0, 1]]))
    np.testing.assert_allclose(loss, [-(np.log(0.7) + np.log(0.1)) / 2])
    assert hits.tolist() == [1]
    smooth, _, _ = cross_entropy.forward(logits, np.array([[0, 1]]), 0.3)
    others = -np.log([0.7, 0.2, 0.1, 0.1, 0.1, 0.8]).sum() / 3
    np.testing.assert_allclose(smooth, [(0.7 * 2 * loss[0] + 0.3 * others) / 2])


def test_batchnorm_moves_its_running_statistics_towards_the_batch():
    x = generator(0, "x").standard_normal((2, 50, 3)) * 4 + 7
    p = {"scale": np.ones((2, 3)), "shift": np.zeros((2, 3)), "mean": np.zeros((2, 3)), "variance": np.ones((2, 3))}
    for _ in range(200):
        y, _ = batchnorm.forward(p, x, train=True)
    np.testing.assert_allclose(p["mean"], x.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(p["variance"], x.var(axis=1, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=1), 1, rtol=1e-5)
    evaluated, cache = batchnorm.forward(p, x, train=False)
    assert cache is None
    np.testing.assert_allclose(evaluated, y, rtol=0.05, atol=0.01)
