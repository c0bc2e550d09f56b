"""Schedules, clipping and the two optimisers against their textbook forms."""

import numpy as np
import pytest

from basiscli.nn import models, weights
from basiscli.training import optim


def rates(schedule, total=100, warmup=0):
    return np.array([optim.rate(schedule, 0.4, step, total, warmup) for step in range(total)])


def test_constant():
    assert (rates("constant") == 0.4).all()


def test_cosine_falls_from_lr_to_almost_nothing():
    values = rates("cosine")
    assert values[0] == 0.4 and values[50] == pytest.approx(0.2) and 0 < values[-1] < 0.001
    assert (np.diff(values) < 0).all()


def test_step_divides_by_ten_twice():
    values = rates("step")
    np.testing.assert_allclose(values[[0, 49, 50, 74, 75, 99]], [0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_warmup_rises_linearly_to_lr(schedule):
    values = rates(schedule, warmup=8)
    np.testing.assert_allclose(values[:8], 0.4 * np.arange(1, 9) / 8)
    assert values[8] == pytest.approx(0.4)


def test_clipping_bounds_each_seed_alone():
    gradient = np.zeros((3, 40))
    gradient[0, :4], gradient[1, :4], gradient[0, 30:] = 3, 0.1, 1e9  # what is frozen does not count
    factors = np.ones(3)
    optim.clip(factors, gradient, 30, 1.5)
    np.testing.assert_allclose(factors, [1.5 / 6, 1, 1])


@pytest.mark.parametrize("optimizer", optim.SLOTS)
def test_an_optimiser_finds_the_minimum_of_a_parabola(optimizer):
    network = models.mlp((1, 1, 1), 2, [])
    layout = weights.layout(network)
    theta = np.ones((2, layout.size))
    state = optim.slots(optimizer, theta)
    for number in range(1, 400):
        factor = np.array([1.0, 0.0])
        optim.step(
            optimizer,
            theta,
            theta - 3,
            state,
            layout,
            factor,
            0.05,
            number,
            momentum=0.9,
            nesterov=True,
            weight_decay=0,
        )
    np.testing.assert_allclose(theta[0, : layout.trained], 3, atol=1e-2)
    assert (theta[1] == 1).all()
