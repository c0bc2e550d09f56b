"""Studies whose answers are known: records as the commands print them, and a folder that holds them."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from basiscli import atomic
from basiscli.analysis.assess import SHARE_OF
from basiscli.experiments.measured import OF_NETWORKS, OF_PAIRS, by_layer
from basiscli.study import steps
from basiscli.study.steps import Step

WIDTHS, LAYERS, NETWORKS = (16, 64, 256), ("hidden1", "hidden2", "hidden3"), 6
SMALL = 0.01
EPOCHS = 10
# How NETWORKS values lie about their mean, of standard deviation 1.
ABOUT = np.array([-1.2, -0.8, -0.3, 0.3, 0.8, 1.2])
ABOUT /= ABOUT.std(ddof=1)


def interval(field: str, value: float, half: float = SMALL) -> dict:
    error = half / stdtrit(NETWORKS - 1, 0.975)
    return {field: value, f"{field}_low": value - half, f"{field}_high": value + half, f"{field}_error": error}


def rotations(
    rho: Sequence[float] = (0.4, 0.3, 0.3),
    linear: Sequence[float] | None = (0.001, 0, 0.002),
    untrained: Sequence[float] | None = (0.01, 0, 0.01),
    half: float = SMALL,
    linear_half: float = SMALL,
    longer: Sequence[float] | str | None = "the same",
    points: float = 0.03,
) -> list[dict]:
    """What a rotation costs beyond a permutation: the log ratio of training losses by layer, after E and 4E epochs.

    longer: that after 4E. points: the accuracy that is lost as well.
    """
    found = []
    longer = rho if longer == "the same" else longer
    for activation, trained, epochs, losses, spread in (
        ("relu", EPOCHS, EPOCHS, rho, half),
        ("relu", EPOCHS, 4 * EPOCHS, longer, half),
        ("linear", EPOCHS, EPOCHS, linear, linear_half),
        ("linear", EPOCHS, 4 * EPOCHS, linear and longer and linear, linear_half),
        ("relu", 0, EPOCHS, untrained, half),
    ):
        for k, loss in enumerate(losses or ()):
            for kind, over, value in (
                ("orthogonal", "identity", loss), ("permutation", "identity", 0.0), ("orthogonal", "permutation", loss),
            ):  # fmt: skip
                found.append(
                    _rotation(f"hidden{k + 1}", kind, over, activation, trained, epochs, value, spread, points)
                )
    return found


def _rotation(layer, kind, over, activation, trained, epochs, value, half, points) -> dict:
    spread = half * math.sqrt(NETWORKS) / stdtrit(NETWORKS - 1, 0.975)
    return {
        "width": 32, "layer": layer, "kind": kind, "over": over, "power": 1, "activation": activation, "units": 32,
        "networks": NETWORKS, "failed": 0, "trained_epochs": trained, "epochs": epochs, "optimizer": "sgd",
        "base_accuracy": 0.96, "test_accuracy": 0.95, **interval("penalty_accuracy", points, half),
        **interval("penalty_test_loss", 3 * points, half), **interval("penalty_train_loss", 2 * points, half),
        **interval("log_loss_ratio", value, half), "log_loss_ratios": (value + spread * ABOUT).tolist(),
    }  # fmt: skip


SHARES = {
    (16, "trained"): 0.24, (64, "trained"): 0.25, (256, "trained"): 0.26, (256, "half-trained"): 0.25,
    (256, "linear"): 0.0, (256, "untrained"): 0.0,
}  # fmt: skip


def correlations(
    share: Sequence[float] | Mapping[tuple[int, str], float | Sequence[float]] = (),
    noise: float = 0.01,
    null: float = 0.4,
    ceiling: float = 0.8,
) -> list[dict]:
    """Pairs of networks that are this share of the way from arbitrary axes to common ones.

    share: one a width, or one (or one a layer) for each of some widths and conditions.
    """
    shares = share if isinstance(share, Mapping) else {(w, "trained"): s for w, s in zip(WIDTHS, share, strict=False)}
    found = []
    for (width, condition), part in (SHARES | dict(shares)).items():
        if part is not None:
            found += _pairs(width, condition, part, noise, null, ceiling)
    return found


def _pairs(width, condition, part, noise, null, ceiling) -> list[dict]:
    parts = part if isinstance(part, Sequence) else [part] * len(LAYERS)
    rng, found = np.random.default_rng([width, len(condition)]), []
    for layer, of_layer in zip(LAYERS, parts, strict=True):
        # Centred, so that the mean of a plant is what was planted, and additive over networks.
        effects = rng.permutation(ABOUT) * noise
        for a, b in combinations(range(NETWORKS), 2):
            matched = null + (of_layer + effects[a] + effects[b]) * (ceiling - null)
            found.append(
                {
                    "width": width, "condition": condition, "epochs": EPOCHS, "optimizer": "sgd", "accuracy": 0.96,
                    "a": f"seed{a}.h5", "b": f"seed{b}.h5", "layer": layer, "units_a": width, "dead_a": 0, "pairs": 1,
                    "identity": 0.01, "matched": matched + 0.02, "matched_held_out": matched,
                    "rotated_held_out_mean": null, "rotated_held_out_excess": matched - null,
                    "aligned_held_out": ceiling, "standardised_rotated_held_out_mean": null,
                    "standardised_rotated_held_out_excess": matched - null, "standardised_aligned_held_out": ceiling,
                    "share": of_layer,
                }
            )  # fmt: skip
    return found


def frozen(
    space: Sequence[float] = (0.04, 0.07),
    axes: Sequence[float] = (0.03, 0.05),
    between: float = 0.005,
    donors: int = 3,
    untrained: bool = True,
) -> list[dict]:
    """Rises of the next layer after one and two frozen layers, and half of them in the layer after it.

    space: of the correlation and the ceiling; axes: of the excess, and twice that of the share. between: the standard
    deviation over donors.
    """
    free = {"width": 64, "donor": "free", "prefix": 0, "dead": 0, "networks": NETWORKS, "test_accuracy": 0.94,
            "units": 64, "epochs": EPOCHS, "optimizer": "sgd", "donor_seed": None}  # fmt: skip
    found = [{**free, "layer": layer, **interval("matched_held_out", 0.45)} for layer in LAYERS]
    given = [("trained", 100 + k, between * (k - (donors - 1) / 2)) for k in range(donors)]
    for donor, seed, off in given + ([("initial", 100, 0.0)] if untrained else []):
        scale = 1.0 if donor == "trained" else 0.2
        for prefix, (rise, excess) in enumerate(zip(space, axes, strict=True), 1):
            for layer, part in zip(LAYERS[prefix:], (scale, scale / 2), strict=False):
                rises = {"rise": rise + off, "ceiling_rise": rise + off, "excess_rise": excess + off,
                         "standardised_excess_rise": excess + off, "share_rise": 2 * excess + off}  # fmt: skip
                found.append(
                    {
                        **free, "donor": donor, "donor_seed": seed, "prefix": prefix, "layer": layer,
                        **interval("matched_held_out", 0.45 + part * rise), "standardised_aligned_held_out": 0.8,
                        "standardised_rotated_held_out_mean": 0.4,
                        **{k: v for name, value in rises.items() for k, v in interval(name, part * value).items()},
                    }
                )  # fmt: skip
    return found


FALL = (-0.5, -1.5, -2.5)


def connected(
    ratios: Sequence[float] = FALL,
    correlation: Sequence[float] = (0.46, 0.45, 0.45),
    circle: Sequence[float] | None = (-0.3, -1.1, -1.9),
    fewer: Sequence[float] | None = (-0.3, -1.1, -1.9),
    excess: Sequence[float] | None = None,
    half: float = SMALL,
    reached: bool = True,
    probe: str = "test",
    accuracy: Sequence[float] | None = None,
) -> list[dict]:
    """Log ratios of barriers over widths, and correlations; circle, fewer: the ratios once correlations are equal.

    reached: whether the controls brought the correlation down at all.
    """
    found, goal = [], min(correlation) - 0.05
    excess, accuracy = excess or [r - 0.4 for r in correlation], accuracy or ratios
    for match, values in (
        ("none", (0, 0, 0)), ("activations", ratios), ("activations-degraded", circle),
        ("activations-fewer-images", fewer),
    ):  # fmt: skip
        for k, width in enumerate(WIDTHS if values else ()):
            worse = match.startswith("activations-")
            r = goal if worse and reached else correlation[k]
            found.append(
                {
                    "width": width, "match": match, "correct": "none", "split": "test", "networks": NETWORKS,
                    "pairs": 15, "test_accuracy": 0.95, "epochs": EPOCHS, "optimizer": "sgd", "correlated_on": probe,
                    "degraded_to": goal if worse else None, "correlation": r,
                    "equal_correlation": abs(r - goal) < 0.01 if worse else None,
                    **interval("barrier", 2 * math.exp(values[k]), half),
                    **interval("midpoint", 2 * math.exp(values[k]), half),
                    **interval("accuracy_barrier", 0.2 * math.exp(values[k]), half),
                    **interval("barrier_log_ratio", values[k], half),
                    **interval("accuracy_barrier_log_ratio", values[k] if worse else accuracy[k], half),
                    **interval("matched_held_out", correlation[k], half),
                    **interval("rotated_held_out_mean", correlation[k] - excess[k], half),
                    **interval("standardised_rotated_held_out_mean", correlation[k] - excess[k], half),
                    **interval("standardised_rotated_held_out_excess", excess[k], half),
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
        else:
            lines = records.get(step.name, [{"path": networks.files[0], "test_accuracy": 0.96}])
            atomic.write_text(folder / step.records, "".join(json.dumps(line) + "\n" for line in lines))
        atomic.write_text(folder / f"steps/{step.name}.json", json.dumps(state))
    return folder


def pair_records(
    shares: Mapping[str, float],
    privilege: float = 0.5,
    accuracy: float = 0.9,
    spread: float = 0.05,
    epoch: int = 10,
    seeds: Sequence[int] = range(5),
) -> list[dict]:
    """What `evolve --pairs` prints of networks with a known share by layer.

    spread: standard deviation of privilege and accuracy over seeds, the same draws for all networks of a seed.
    """
    about = dict(zip(seeds, spread * ABOUT[: len(seeds)] - spread * ABOUT[: len(seeds)].mean(), strict=True))
    fields = dict.fromkeys(f"{name}_{side}" for name in OF_NETWORKS for side in "ab") | dict.fromkeys(OF_PAIRS)
    found = []
    for layer, share in shares.items():
        for a, b in combinations(seeds, 2):
            record = {"epoch": epoch, "layer": layer, "seed_a": a, "seed_b": b, "units": 16, "networks": len(seeds)}
            record |= {"diverged": 0, "epochs": 10, "optimizer": "sgd", "tap": "pre", "correlated_on": "test"} | fields
            for side, seed in (("a", a), ("b", b)):
                record |= {f"privilege_{side}": privilege + about[seed], f"dead_{side}": 0}
                record |= {f"test_accuracy_{side}": accuracy + about[seed]}
            null, ceiling = 0.3 + (about[a] + about[b]) / 10, 0.7 + (about[a] + about[b]) / 10
            matched = null + share * (ceiling - null)
            found.append(record | dict(zip(SHARE_OF, (matched, null, ceiling), strict=True)) | {"barrier": 1.0})
    return found


def evolved(shares: Mapping[int, float], layers: Sequence[str] = ("hidden1", "hidden2")) -> list[dict]:
    """What `evolve` prints of networks with a known share, and a privilege of the same size, at each epoch."""
    found, first = [], None
    for epoch, share in shares.items():
        records = pair_records(dict.fromkeys(layers, share), privilege=share, epoch=epoch)
        measured = by_layer(records)
        about = {name: records[0][name] for name in ("epoch", "networks", "diverged", "epochs", "optimizer", "tap")}
        for layer, values in measured.items():
            over = None if first is None else first[layer]
            found.append(about | {"layer": layer} | values.fields() | values.rises(over))
        first = first or measured
    return found
