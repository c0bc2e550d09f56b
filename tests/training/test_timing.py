"""The estimate of a run's length, with a clock that charges for every image and step."""

import pytest

from basiscli import data
from basiscli.nn import models
from basiscli.training import timing
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Charge 2 s a step and 0.5 s an image in training, 0.1 s an image in evaluation."""
    clock = Clock()
    train_step, evaluate = Run._train_step, Run.evaluate

    def charged_step(run, chosen, *rest):
        clock.now += 2 + 0.5 * chosen.shape[1] + (10 if not run.step else 0)  # the first compiles
        return train_step(run, chosen, *rest)

    def charged_evaluation(run, split):
        clock.now += 0.1 * len(split.labels)
        return evaluate(run, split)

    monkeypatch.setattr(Run, "_train_step", charged_step)
    monkeypatch.setattr(Run, "evaluate", charged_evaluation)
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.mark.parametrize("limit", [10**11, 30_000])
def test_a_step_is_extrapolated_from_small_batches(clock, monkeypatch, limit):
    monkeypatch.setattr(timing, "MULTIPLY_ADDS", limit)
    digits, network = data.load("digits"), models.mlp((8, 8, 1), 10, [16])
    step, evaluation = timing.seconds(network, Recipe(batch_size=100), digits, [0])
    assert step == pytest.approx(2 + 0.5 * 100)
    assert evaluation == pytest.approx(0.1 * 597)
