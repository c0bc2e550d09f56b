"""How long a run would take, from a few measured steps."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from basiscli.data import Dataset, Split
from basiscli.device import placement
from basiscli.nn import cost
from basiscli.nn.graph import Network
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run

# Steps that are measured, after one that compiles; the shortest counts, as nothing makes a step faster than it is.
STEPS = 3
# Short steps are measured several at a time, in seconds, as they are trained.
PAUSE = 0.02
# A measured step has about this many multiply-adds at most, seconds on a slow machine; longer ones are extrapolated.
MULTIPLY_ADDS = 10**11


def seconds(network: Network, recipe: Recipe, dataset: Dataset, seeds: Sequence[int]) -> tuple[float, float]:
    """Return the seconds of a training step of some seeds at once, and of an evaluation on the test split.

    A step takes a + b N for a batch of N: two small batches say a and b where the whole one would take long.
    """
    work = cost.multiply_adds(network) * len(seeds)
    few, whole = min(recipe.batch_size, max(1, MULTIPLY_ADDS // (3 * work))), recipe.batch_size
    step = _step(network, replace(recipe, batch_size=few), dataset, seeds)
    if few < whole:
        more = _step(network, replace(recipe, batch_size=2 * few), dataset, seeds)
        step += max(more - step, 0) / few * (whole - few)
    shown = min(cost.evaluated_at_once(network), max(1, MULTIPLY_ADDS // work), len(dataset.test.labels))
    part = Split(dataset.test.images[:shown], dataset.test.labels[:shown])
    return step, _evaluation(Run.start(network, recipe, dataset, seeds), part) * len(dataset.test.labels) / shown


def _step(network: Network, recipe: Recipe, dataset: Dataset, seeds: Sequence[int]) -> float:
    run = Run.start(network, recipe, replace(dataset, test=_first(dataset.test)), seeds)
    marks = [(_now(), 0)]
    while len(marks) < STEPS + 2:
        run.train_epoch(lambda: len(marks) > STEPS + 1, lambda steps: marks.append((_now(), steps)), PAUSE)
    return min((end - begin) / steps for (begin, _), (end, steps) in pairwise(marks))


def _evaluation(run: Run, part: Split) -> float:
    run.evaluate(part)
    start = _now()
    run.evaluate(part)
    return _now() - start


def _now() -> float:
    """Return the time when all that was begun is done."""
    placement.wait()
    return time.perf_counter()


def _first(split: Split) -> Split:
    return Split(split.images[:1], split.labels[:1])
