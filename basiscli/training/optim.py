"""Optimisers over the flat parameters of all seeds, learning-rate schedules, clipping. S seeds, P parameters."""

from collections.abc import Mapping
from math import cos, pi

import numpy as np

from basiscli import kernels
from basiscli.nn.weights import Layout

# The arrays (S, P) that each optimiser keeps from step to step.
SLOTS = {"sgd": ("velocity",), "adamw": ("first", "second")}
SCHEDULES = ("constant", "cosine", "step")
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# The step schedule divides the rate by 10 after these parts of the run (as He et al. 2016 do on CIFAR-10).
STEPS = (0.5, 0.75)


def slots(optimizer: str, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Return the optimiser's arrays at the start: zeros like theta (S, P)."""
    return {name: np.zeros_like(theta) for name in SLOTS[optimizer]}


def rate(schedule: str, lr: float, step: int, total: int, warmup: int) -> float:
    """Return the learning rate of a step (from 0) of `total`.

    The first `warmup` steps rise linearly to lr; then it stays ("constant"), falls as (1 + cos πt) / 2 ("cosine",
    Loshchilov and Hutter 2017), or is divided by 10 at t = 0.5 and t = 0.75 ("step"), t the part of the rest done.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    t = (step - warmup) / max(total - warmup, 1)
    if schedule == "cosine":
        return lr * 0.5 * (1 + cos(pi * t))
    return lr * 0.1 ** sum(t >= part for part in STEPS) if schedule == "step" else lr


def clip(factor: np.ndarray, gradient: np.ndarray, trained: int, bound: float) -> None:
    """Multiply factor (S,) in place by min(1, bound / |g|) for each seed's gradient (S, P) (Pascanu et al. 2013)."""
    kernel = kernels.of(gradient)
    kernel.clip(factor, kernel.squared_norm(gradient, trained), bound)


def step(
    optimizer: str,
    theta: np.ndarray,
    gradient: np.ndarray,
    state: Mapping[str, np.ndarray],
    layout: Layout,
    factor: np.ndarray,
    lr: float | np.ndarray,
    number: int | np.ndarray,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Take the `number`-th step (from 1) in place; `factor` (S,) multiplies each gradient, 0 stops that seed.

    Rate and number may be arrays (S,) float64.
    """
    kernel, counts = kernels.of(theta), (layout.decayed, layout.trained)
    if optimizer == "sgd":
        kernel.sgd(theta, gradient, state["velocity"], counts, lr, factor, momentum, nesterov, weight_decay)
    else:
        first, second = state["first"], state["second"]
        kernel.adamw(theta, gradient, first, second, counts, lr, factor, number, BETA1, BETA2, EPSILON, weight_decay)
