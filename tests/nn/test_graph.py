"""The walk over a network: gradients of whole models, taps, frozen parts, nodes with several readers."""

from types import SimpleNamespace

import numpy as np
import pytest

from basiscli.errors import BadInput
from basiscli.nn import models
from basiscli.nn.builder import NORMS
from basiscli.nn.graph import INPUT, Network, forward
from basiscli.nn.ops import dense, pointwise
from basiscli.nn.ops.node import Node
from basiscli.rng import generator
from tests.helpers.gradients import check_gradient
from tests.helpers.networks import arrays_of, copied, loss_and_gradient

S, N = 2, 6


def assert_right_gradient(network, paths):
    rng = generator(0, "data")
    arrays, x = arrays_of(network), rng.standard_normal((S, N, 2, 2, 1))
    labels = rng.integers(0, 3, (S, N))
    _, gradient = loss_and_gradient(network, arrays, x, labels, paths)
    check_gradient(
        lambda at: float(loss_and_gradient(network, {**copied(arrays), **at}, x, labels, paths)[0].sum()),
        {path: arrays[path] for path in paths},
        gradient,
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", models.ACTIVATIONS)
def test_gradient_of_an_mlp(norm, activation):
    network = models.mlp((2, 2, 1), 3, [5, 4], activation, norm)
    assert_right_gradient(network, network.trained)


def test_gradient_of_what_is_not_frozen():
    network = models.mlp((2, 2, 1), 3, [5, 4], "tanh", "layer")
    assert_right_gradient(network, ["hidden2/b", "output/w"])


def test_gradient_where_a_node_has_two_readers():
    add = SimpleNamespace(
        forward=lambda p, a, b, train: (a + b, None), backward=lambda dy, cache, need_dx, dp: (dy, dy)
    )
    flat = models.mlp((2, 2, 1), 3, []).nodes[0]
    nodes = (
        flat,
        Node("first", dense, ("flatten",), weights=dense.weights(4, 4, 1)),
        Node("phi", pointwise, ("first",), {"function": "tanh"}),
        Node("second", dense, ("phi",), weights=dense.weights(4, 4, 1)),
        Node("sum", add, ("second", "first")),
        Node("output", dense, ("sum",), weights=dense.weights(4, 3, 1)),
    )
    network = Network({}, nodes, {})
    assert_right_gradient(network, network.trained)


def test_frozen_bottom_costs_no_backward_pass():
    called = []
    spy = SimpleNamespace(
        forward=lambda p, x, train: (x, None), backward=lambda dy, cache, need_dx, dp: called.append("spy") or dy
    )
    plain = models.mlp((2, 2, 1), 3, [4])
    nodes = (Node("spy", spy, (INPUT,)), Node("flatten", plain.nodes[0].op, ("spy",)), *plain.nodes[1:])
    network = Network({}, nodes, {})
    arrays = arrays_of(network)
    x, labels = np.ones((S, N, 2, 2, 1)), np.zeros((S, N), int)
    loss_and_gradient(network, arrays, x, labels, network.trained)
    assert not called


def test_taps_are_before_and_after_the_nonlinearity():
    network = models.mlp((2, 2, 1), 3, [5, 4], "relu", "batch")
    assert list(network.layers) == ["hidden1", "hidden2"]
    arrays, x = arrays_of(network), generator(0, "x").standard_normal((1, N, 2, 2, 1))
    pre, post = network.tap("hidden2", "pre"), network.tap("hidden2", "post")
    logits, kept, caches = forward(network, arrays, x, keep={pre, post})
    np.testing.assert_array_equal(kept[post], np.maximum(kept[pre], 0))
    assert kept[post].shape == (S, N, 4) and logits.shape == (S, N, 3) and not caches
    early, kept_early, _ = forward(network, arrays, x, keep={pre}, until=pre)
    np.testing.assert_array_equal(early, kept[pre])
    np.testing.assert_array_equal(kept_early[pre], kept[pre])


def test_seeds_do_not_meet():
    network = models.mlp((2, 2, 1), 3, [5], "relu", "batch")
    arrays, x = arrays_of(network), generator(0, "x").standard_normal((S, N, 2, 2, 1))
    together, _, _ = forward(network, copied(arrays), x, train=True)
    alone = [
        forward(network, {k: v[s : s + 1].copy() for k, v in arrays.items()}, x[s : s + 1], train=True)[0]
        for s in range(S)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_network_is_rebuilt_from_its_description():
    network = models.mlp((8, 8, 1), 10, [16, 12], "gelu", "layer")
    again = models.build(network.architecture)
    assert {path: w.shape for path, w in again.weights.items()} == {
        path: w.shape for path, w in network.weights.items()
    }


@pytest.mark.parametrize(
    "change", [{"model": "lstm"}, {"activation": "sine"}, {"depth": 3}, {"norm": None}, {"model": None}]
)
def test_a_description_of_nothing_is_refused(change):
    with pytest.raises(BadInput, match="not an architecture"):
        models.build(models.mlp((8, 8, 1), 10, [16]).architecture | change)
