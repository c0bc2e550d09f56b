"""Studies whose answers are known: records as the commands print them, and a folder that holds them."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from basiscli import atomic
from basiscli.study import steps
from basiscli.study.steps import Step

WIDTHS, LAYERS, NETWORKS = (16, 64, 256), ("hidden1", "hidden2", "hidden3"), 6
SMALL = 0.01


def interval(field: str, value: float, half: float = SMALL) -> dict:
    error = half / stdtrit(NETWORKS - 1, 0.975)
    return {field: value, f"{field}_low": value - half, f"{field}_high": value + half, f"{field}_error": error}


def rotations(
    relu: Sequence[float] = (0.04, 0.03, 0.03), linear: Sequence[float] | None = (0.001, 0, 0.002), half: float = SMALL
) -> list[dict]:
    """What a rotation costs beyond a permutation, by layer, in networks with ReLU and linear ones."""
    found = []
    for activation, losses in (("relu", relu), ("linear", linear)):
        for layer, loss in zip(LAYERS, losses or (), strict=False):
            arms = {("orthogonal", "identity"): loss + 0.002, ("permutation", "identity"): 0.002}
            for (kind, over), value in (arms | {("orthogonal", "permutation"): loss}).items():
                found.append(
                    {
                        "width": 32, "layer": layer, "kind": kind, "over": over, "power": 1, "activation": activation,
                        "networks": NETWORKS, "failed": 0, "test_accuracy": 0.95 - value,
                        **interval("penalty_accuracy", value, half), **interval("penalty_test_loss", 3 * value, half),
                        **interval("penalty_train_loss", 2 * value, half),
                    }
                )  # fmt: skip
    return found


def correlations(share: Sequence[float] = (0.2, 0.2, 0.25), noise: float = 0.01) -> list[dict]:
    """Pairs of networks that are, at each width, this share of the way from the rotated null to the aligned ceiling."""
    rng, found = np.random.default_rng(0), []
    for width, part in zip(WIDTHS, share, strict=True):
        for a, b in combinations(range(NETWORKS), 2):
            for layer in LAYERS:
                null, ceiling = 0.4 + noise * rng.standard_normal(), 0.8 + noise * rng.standard_normal()
                matched = null + (part + noise * rng.standard_normal()) * (ceiling - null)
                found.append(
                    {
                        "width": width, "a": f"seed{a}.h5", "b": f"seed{b}.h5", "layer": layer, "units_a": width,
                        "dead_a": 0, "pairs": 1, "identity": 0.01, "matched": matched + 0.02,
                        "matched_held_out": matched, "rotated_held_out_mean": null,
                        "rotated_held_out_excess": matched - null, "aligned_held_out": ceiling,
                        "standardised_rotated_held_out_mean": null, "standardised_aligned_held_out": ceiling,
                    }
                )  # fmt: skip
    return found


def frozen(rise: Sequence[float] = (0.04, 0.07), excess: float = 0.01, half: float = SMALL) -> list[dict]:
    """Rises of the next layer after one and two frozen layers of a trained donor, and half of it in the one after."""
    free = {"width": 64, "donor": "free", "prefix": 0, "dead": 0, "networks": NETWORKS, "test_accuracy": 0.94}
    found = [{**free, "layer": layer, **interval("matched_held_out", 0.45)} for layer in LAYERS]
    for prefix, value in enumerate(rise, 1):
        for layer, part in zip(LAYERS[prefix:], (1, 0.5), strict=False):
            condition = {"donor": "trained", "prefix": prefix, "layer": layer}
            rises = interval("rise", part * value, half) | interval("excess_rise", part * excess, half)
            found.append({**free, **condition, **interval("matched_held_out", 0.45 + part * value), **rises})
    return found


def connected(
    barriers: Sequence[float] = (1, 0.5, 0.1),
    correlation: Sequence[float] = (0.46, 0.45, 0.45),
    degraded: Sequence[float] | None = None,
    half: float = SMALL,
) -> list[dict]:
    """Barriers and correlations over widths; degraded: the barrier once correlations are made equal."""
    found = []
    for k, width in enumerate(WIDTHS):
        conditions = {"none": 2.0, "activations": barriers[k]}
        conditions |= {"activations-degraded": degraded[k]} if degraded else {}
        for match, barrier in conditions.items():
            found.append(
                {
                    "width": width, "match": match, "correct": "none", "split": "test", "networks": NETWORKS,
                    "pairs": 15, "test_accuracy": 0.95, **interval("barrier", barrier, half * barrier),
                    **interval("midpoint", barrier, half), **interval("accuracy_barrier", barrier / 5, half),
                    **interval("matched_held_out", correlation[k]),
                    **interval("rotated_held_out_mean", correlation[k] - 0.1),
                }
            )  # fmt: skip
    return found


TABLES = {"rotate": rotations, "correlate": correlations, "freeze": frozen, "connectivity": connected}


def study(folder: Path, failed: str | None = None, **tables: list[dict]) -> Path:
    """Write a study's folder as if its steps had been run; one may have failed."""
    records = {name: make() for name, make in TABLES.items()} | tables
    networks = Step("train-w16-free", ("train", "--out", "networks"), (), ("networks/seed0.h5",))
    found = [networks, *(Step(name, (name, "networks/seed0.h5"), (networks.name,)) for name in records)]
    steps.prepare(folder, "planted", '[train]\ndataset = "digits" # <planted>\n', found)
    for step in found:
        state = {"status": "done", "tries": 1, "seconds": 1.5, "host": "here", "versions": {"numpy": "2"}, "files": {}}
        if step.name == failed:
            state |= {"status": "failed", "tries": 2, "error": "a <bad> day"}
        elif step.name in records:
            atomic.write_text(folder / step.records, "".join(json.dumps(one) + "\n" for one in records[step.name]))
        atomic.write_text(folder / f"steps/{step.name}.json", json.dumps(state))
    return folder
