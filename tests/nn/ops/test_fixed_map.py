"""The fixed map: its values, its gradient, its kernels, and where models put it."""

import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.nn.graph import forward
from basiscli.nn.ops import fixed_map
from basiscli.nn.unit_groups import rotate_units, unit_groups
from basiscli.rng import generator
from tests.helpers.gradients import check_gradient
from tests.helpers.networks import arrays_of, logits

S, N, C = 2, 5, 4
SHAPES = {"vectors": (S, N, C), "images": (S, N, 3, 2, C)}
RESNET = {"model": "resnet", "input_shape": [8, 8, 3], "classes": 10, "depth": 8, "width": 0.25}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_m_x_at_every_position_and_backward_is_its_gradient(shape):
    rng = generator(0, "rotation")
    x, m = rng.standard_normal(shape), rng.standard_normal((S, C, C))
    p = {"w": m.swapaxes(1, 2).copy()}
    y, cache = fixed_map.forward(p, x, train=True)
    np.testing.assert_allclose(y, np.einsum("sij,s...j->s...i", m, x))
    dy = rng.standard_normal(y.shape)
    dx = fixed_map.backward(dy, cache, True, {})
    check_gradient(lambda at: float((fixed_map.forward(p, at["x"], train=True)[0] * dy).sum()), {"x": x}, {"x": dx})
    assert fixed_map.backward(dy, cache, False, {}) is None


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_compiled_kernels_agree_with_numpy(shape):
    rng = generator(1, "rotation")
    x, w = rng.standard_normal((1, *shape[1:])), rng.standard_normal((S, C, C))
    exact, cache = fixed_map.forward({"w": w}, x, train=True)
    exact_dx = fixed_map.backward(exact, cache, True, {})
    y, cache = fixed_map.forward({"w": w.astype("f")}, x.astype("f"), train=True)
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fixed_map.backward(y, cache, True, {}), exact_dx, rtol=1e-5, atol=1e-4)


def test_a_map_is_the_identity_until_it_is_set_and_then_turns_what_is_read():
    description = {"model": "mlp", "input_shape": [2, 2, 1], "classes": 3, "hidden": [5, 4]}
    plain = models.build(description)
    for tap in ("pre", "post"):
        network = models.build(description | {"rotated": {"hidden1": tap}})
        assert network.architecture["rotated"] == {"hidden1": tap}
        assert network.trained == plain.trained and network.tap("hidden1", tap) == "hidden1/rotation"
        arrays = arrays_of(network, seeds=1)
        np.testing.assert_array_equal(logits(network, arrays), logits(plain, arrays))
        arrays["hidden1/rotation/w"] = generator(4, "w").standard_normal((1, 5, 5))
        x = generator(2, "images").standard_normal((1, 3, 2, 2, 1))
        _, kept, _ = forward(network, arrays, x, keep=[network.tap("hidden1", t) for t in ("pre", "post")])
        _, before, _ = forward(plain, arrays, x, keep=[plain.tap("hidden1", t) for t in ("pre", "post")])
        turned = before[plain.tap("hidden1", tap)] @ arrays["hidden1/rotation/w"]
        np.testing.assert_allclose(kept["hidden1/rotation"], turned)
        if tap == "pre":
            np.testing.assert_allclose(kept["hidden1/relu"], np.maximum(turned, 0))


def test_it_comes_after_the_norm_of_its_map_and_before_the_sum():
    network = models.build(RESNET | {"rotated": {"stem": "pre", "block1/conv2": "pre"}})
    nodes = {node.name: node for node in network.nodes}
    assert nodes["stem/rotation"].inputs == ("stem/norm",) and network.tap("stem", "pre") == "stem/rotation"
    assert nodes["block1/conv2/rotation"].inputs == ("block1/conv2/norm",)
    assert nodes["block1/sum"].inputs == ("stem/relu", "block1/conv2/rotation")
    plain = models.build(RESNET)
    arrays = arrays_of(network, seeds=1)
    np.testing.assert_allclose(logits(network, arrays), logits(plain, arrays))


def test_the_units_after_it_are_a_basis_of_their_own():
    description = {"model": "mlp", "input_shape": [2, 2, 1], "classes": 3, "hidden": [5, 4], "activation": "linear"}
    network = models.build(description | {"rotated": {"hidden1": "pre"}})
    found, arrays = unit_groups(network), arrays_of(network, seeds=1)
    assert [path for path, *_ in found.paths("hidden1")] == ["hidden1/rotation/w", "hidden2/w"]
    m = generator(5, "m").standard_normal((1, 5, 5))
    arrays["hidden1/rotation/w"] = m.swapaxes(1, 2)
    folded = rotate_units(found, arrays, {"hidden1": np.linalg.inv(m)})
    np.testing.assert_allclose(folded["hidden1/rotation/w"][0], np.eye(5), atol=1e-12)
    np.testing.assert_allclose(logits(network, folded), logits(network, arrays), rtol=1e-9)


@pytest.mark.parametrize("places", [{"output": "pre"}, {"hidden9": "pre"}, {"hidden1": "after"}, {"flatten": "pre"}])
def test_what_cannot_be_rotated_is_refused(places):
    with pytest.raises(BadInput, match="nothing to rotate at"):
        models.build({"model": "mlp", "input_shape": [2, 2, 1], "classes": 3, "hidden": [5], "rotated": places})
