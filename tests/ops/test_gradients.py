"""Every op's backward pass is the gradient of its forward pass, in float64 with several seeds."""

import numpy as np
import pytest

from basiscli.ops import batchnorm, cross_entropy, dense, flatten, layernorm, pointwise
from basiscli.rng import generator
from tests.gradients import check_gradient

S, N, C = 3, 7, 5
CASES = {
    "dense": (dense, dense.weights(C, 4, 1.0), (S, N, C), {}),
    "flatten": (flatten, {}, (S, N, 2, 3, C), {}),
    "batchnorm": (batchnorm, batchnorm.weights(C), (S, N, C), {}),
    "batchnorm of images": (batchnorm, batchnorm.weights(C), (S, N, 2, 3, C), {}),
    "layernorm": (layernorm, layernorm.weights(C), (S, N, C), {}),
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


def test_cross_entropy():
    rng = generator(0, "gradient", "cross_entropy")
    logits, labels = 3 * rng.standard_normal((S, N, C)), rng.integers(0, C, (S, N))
    weights = rng.standard_normal(S)
    _, _, cache = cross_entropy.forward(logits, labels)
    gradient = cross_entropy.backward(cache) * weights[:, None, None]
    check_gradient(
        lambda at: float(cross_entropy.forward(at["logits"], labels)[0] @ weights),
        {"logits": logits},
        {"logits": gradient},
    )


def test_cross_entropy_of_known_values():
    logits = np.log(np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]]))
    loss, hits, _ = cross_entropy.forward(logits, np.array([[0, 1]]))
    np.testing.assert_allclose(loss, [-(np.log(0.7) + np.log(0.1)) / 2])
    assert hits.tolist() == [1]


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
