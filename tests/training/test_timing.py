"""The estimate of a run's length, with a clock that charges for every image and step."""

import pytest

from basiscli import data
from basiscli.device.program import Program
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
    replay, evaluate = Program.run, Run.evaluate

    def charged_steps(program, inputs):
        if len(inputs) > 4:  # a step of training; evaluation is charged apart
            _, steps, samples = inputs[0].shape
            clock.now += steps * (2 + 0.5 * samples) + (10 if inputs[4][0, 0] == 1 else 0)  # the first compiles
        replay(program, inputs)

    def charged_evaluation(run, split):
        clock.now += 0.1 * len(split.labels)
        return evaluate(run, split)

    monkeypatch.setattr(Program, "run", charged_steps)
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
