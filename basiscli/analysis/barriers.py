"""Loss and accuracy between two networks: curves over L values of λ, and the barriers that follow from them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from basiscli.analysis.statistics import over_networks

LINES = ("loss", "accuracy")
# Suffixes of degraded matches: partners are passed on in a circle, or fewer images are matched on.
CIRCLE, FEWER = DEGRADED = ("-degraded", "-fewer-images")
# What decides C4, the first that was tried: the match, and the correction.
DECIDING, CORRECTING = ("activations", "both", "weights"), ("reset-bn", "repair", "none")
# Added to a barrier before its logarithm is taken, so that a barrier of 0 has a logarithm too.
FLOOR = 0.01
# By barrier, the field of the logarithm of its ratio to the barrier without a match.
LOG_RATIOS = {"barrier": "barrier_log_ratio", "accuracy_barrier": "accuracy_barrier_log_ratio"}
BARRIERS = ("barrier", "midpoint", "accuracy_barrier", "accuracy_midpoint")


@dataclass(frozen=True)
class Curve:
    """Mean loss (nats) and accuracy along a path, (L,) each; λ goes from 0, network a, to 1, network b.

    L is odd and λ is evenly spaced, so that the midpoint is among the values.
    """

    lambdas: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray

    def fields(self) -> dict[str, float]:
        """Return the ends' values and the barriers, as the fields of a record (docs/connectivity.md)."""
        loss, accuracy = self.above_chord(self.loss), -self.above_chord(self.accuracy)
        middle, highest = len(loss) // 2, int(np.argmax(loss))
        return {
            "loss_a": self.loss[0],
            "loss_b": self.loss[-1],
            "accuracy_a": self.accuracy[0],
            "accuracy_b": self.accuracy[-1],
            "barrier": loss[highest],
            "barrier_at": self.lambdas[highest],
            "midpoint": loss[middle],
            "accuracy_barrier": accuracy.max(),
            "accuracy_midpoint": accuracy[middle],
        }

    def above_chord(self, values: np.ndarray) -> np.ndarray:
        """Return f(λ) - ((1 - λ) f(0) + λ f(1))."""
        return values - ((1 - self.lambdas) * values[0] + self.lambdas * values[-1])


def evenly(points: int) -> np.ndarray:
    """Return `points` values of λ from 0 to 1; an odd number has the midpoint exactly. Raises ValueError if not odd."""
    if points < 3 or points % 2 == 0:
        raise ValueError(f"{points} points: choose an odd number from 3 on")
    return np.arange(points) / (points - 1)


def mean(curves: Mapping[tuple[int, int], Curve]) -> Curve:
    """Return the mean curve of pairs."""
    loss, accuracy = (np.mean([getattr(curve, name) for curve in curves.values()], axis=0) for name in LINES)
    return Curve(next(iter(curves.values())).lambdas, loss, accuracy)


def mean_fields(curves: Mapping[tuple[int, int], Curve]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return the means over pairs of every field, and the barriers' intervals: <field>_low, _high and _error."""
    fields = {pair: curve.fields() for pair, curve in curves.items()}
    means: dict[str, float | None] = {}
    intervals: dict[str, float | None] = {}
    for name in next(iter(fields.values())):
        finite = {pair: values[name] if np.isfinite(values[name]) else None for pair, values in fields.items()}
        fields_of_mean = over_networks(finite).fields(name)
        means[name] = fields_of_mean.pop(name)
        if name in BARRIERS:
            intervals |= fields_of_mean
    return means, intervals


def log_ratios(
    curves: Mapping[tuple[int, int], Curve], unmatched: Mapping[tuple[int, int], Curve] | None
) -> dict[str, float | None]:
    """Return the mean over pairs of ln((B + 0.01) / (B_unmatched + 0.01)), by `LOG_RATIOS`, with intervals.

    unmatched: the curves of the same pairs under the same correction; without them the ratios are None. Barriers are
    skewed over networks, and their logarithms hardly are.
    """
    fields: dict[str, float | None] = {}
    others = unmatched or {}
    for name, ratio in LOG_RATIOS.items():
        values = {
            pair: float(np.log((curve.fields()[name] + FLOOR) / (others[pair].fields()[name] + FLOOR)))
            for pair, curve in (curves.items() if others else ())
        }
        finite = {pair: value for pair, value in values.items() if np.isfinite(value)}
        fields |= over_networks(finite).fields(ratio)
    return fields


def deciding_condition(conditions: Collection[tuple[str, str]]) -> tuple[str, str] | None:
    """Return of some (match, correction) the one that C4 looks at: by activations, and corrected, where that was tried.

    None if nothing was matched.
    """
    matches = [match for match in DECIDING if any(match == name for name, _ in conditions)]
    corrections = [c for match in matches[:1] for c in CORRECTING if (match, c) in conditions]
    return (matches[0], corrections[0]) if corrections else None


def undegraded(match: str) -> str:
    """Return the match that a degraded one was made from."""
    return match.removesuffix(CIRCLE).removesuffix(FEWER)


def band(curves: Mapping[tuple[int, int], Curve], name: str) -> np.ndarray:
    """Return mean, low and high of "loss" or "accuracy" at every λ, (3, L); the interval of two networks is NaN."""
    columns = zip(*(getattr(curve, name) for curve in curves.values()), strict=True)
    estimates = [over_networks(dict(zip(curves, column, strict=True))) for column in columns]
    return np.array([(estimate.value, *estimate.interval()) for estimate in estimates], dtype=float).T
