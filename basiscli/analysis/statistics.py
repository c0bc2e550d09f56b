"""Uncertainty: networks are the sampling unit, and pairs share networks. Intervals are t intervals of standard errors.

The errors are jackknifed over networks (Efron and Stein 1981): leave one network out, with all its pairs, and look how
much the result moves. docs/metrics.md has the simulated coverage.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
# The suffixes in a record of a value, of the ends of its interval, and of its standard error.
ENDS = ("", "_low", "_high", "_error")

Pair = tuple[int, int]
Values = Mapping[Pair, float | None]


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the degrees of freedom of the error. None where it is undefined."""

    value: float | None
    error: float | None = None
    freedom: float = 0.0

    def interval(self, level: float = LEVEL, bound: float = math.inf) -> tuple[float | None, float | None]:
        """Return (low, high) = value ± t error, cut at ± `bound`, the largest possible value."""
        if self.value is None or self.error is None:
            return None, None
        from scipy.special import stdtrit  # here and below: takes a fifth of a second to import

        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return max(self.value - half, -bound), min(self.value + half, bound)

    def fields(self, name: str, bound: float = math.inf) -> dict[str, float | None]:
        """Return it as the fields of a record: <name>, <name>_low, <name>_high (95 %) and <name>_error."""
        return dict(
            zip((name + end for end in ENDS), (self.value, *self.interval(bound=bound), self.error), strict=True)
        )

    def p_value(self, truth: float = 0.0) -> float | None:
        """Return the two-sided p of a true value: 0.05 where it is an end of the 95 % interval."""
        if self.value is None or self.error is None:
            return None
        distance = abs(self.value - truth)
        if not self.error:
            return float(not distance)
        from scipy.special import stdtr

        return 2 * float(stdtr(self.freedom, -distance / self.error))


def over_networks(values: Values) -> Estimate:
    """Return the mean over pairs of networks, its error over networks; no error for fewer than three networks."""
    return jackknife([values], lambda mean: mean)


def jackknife(tables: Sequence[Values], function: Callable[..., float | None]) -> Estimate:
    """Return function(means over pairs of each table), with its error over K networks.

    θ_k is the result without the pairs of network k; the error is √((K-1)/K Σ (θ_k - mean θ)²), of K-1 degrees of
    freedom (Efron and Stein 1981). For effects that add up over networks it is exact in the mean; noise of single
    pairs makes it too large. Pairs that one table lacks are left out of all tables. There is no error for fewer than
    three networks, or if the function is undefined without one of them.
    """
    pairs = [pair for pair in tables[0] if all(table.get(pair) is not None for table in tables)]
    if not pairs:
        return Estimate(None)
    columns = np.array([[table[pair] for pair in pairs] for table in tables], dtype=np.float64)
    value = function(*columns.mean(axis=1))
    networks = sorted({network for pair in pairs for network in pair})
    if value is None or len(networks) < 3:
        return Estimate(value if value is None else float(value))
    without: list[float] = []
    for network in networks:
        kept = columns[:, [network not in pair for pair in pairs]]
        result = function(*kept.mean(axis=1)) if kept.size else None
        if result is None:
            return Estimate(float(value))
        without.append(result)
    k = len(networks)
    error = math.sqrt((k - 1) / k * np.square(np.subtract(without, np.mean(without))).sum())
    return Estimate(float(value), error, k - 1)


def share(matched: float | None, null: float | None, ceiling: float | None) -> float | None:
    """Return (matched - null) / (ceiling - null).

    It is 0 for arbitrary axes, and 1 where units pair up as well as the spaces allow. None where a score is missing or
    the ceiling is not above the null.
    """
    if matched is None or null is None or ceiling is None or ceiling <= null:
        return None
    return float((matched - null) / (ceiling - null))


def share_over_networks(matched: Values, null: Values, ceiling: Values) -> Estimate:
    """Return the share of the means over pairs, its error over networks.

    A ratio of means, not a mean of ratios, so that a pair whose ceiling is near its null does not decide.
    """
    return jackknife([matched, null, ceiling], share)


def rise(values: Values, over: Values) -> Estimate:
    """Return the mean over pairs of seeds of values - over, its error over seeds.

    A seed draws one network of each condition, so the jackknife leaves out both networks at once. The difference
    belongs to a pair of seeds, as a score does. Pairs that one of the conditions lacks are left out.
    """
    return jackknife([values, over], lambda mean, other: mean - other)


def rise_of_share(values: Sequence[Values], over: Sequence[Values]) -> Estimate:
    """Return by how much the share rises over another condition of the same seeds.

    values, over: matched, null and ceiling of both conditions, as `share_over_networks` takes them.
    """

    def difference(*means: float) -> float | None:
        first, second = share(*means[:3]), share(*means[3:])
        return None if first is None or second is None else first - second

    return jackknife([*values, *over], difference)


def over_sample(values: Iterable[float]) -> Estimate:
    """Return the mean of independent values, such as one for each network, and s/√n; a single value has no error."""
    values = np.array(list(values), dtype=np.float64)
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()) if n else None)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), n - 1)


def over_runs(values: Mapping[tuple[int, int], float]) -> Estimate:
    """Return the mean of values by (network, repeat), its error over networks; of few networks, over runs.

    Of three or more networks each counts as the mean of its repeats, which varies with the network and the repeats. Of
    fewer networks all runs count alike, and the interval says nothing about other networks. Fewer than three runs have
    no error.
    """
    means = list(means_of_networks(values).values())
    counted = over_sample(means if len(means) >= 3 else values.values())
    return counted if counted.freedom >= 2 else Estimate(counted.value)


def means_of_networks(values: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """Return the mean over repeats of values by (network, repeat), for each network."""
    repeats: dict[int, list[float]] = {}
    for (network, _), value in sorted(values.items()):
        repeats.setdefault(network, []).append(value)
    return {network: float(np.mean(of_network)) for network, of_network in repeats.items()}


def averaged(tables: Iterable[Mapping]) -> dict:
    """Return the mean over tables, such as layers, of the values that each has under the same key (network or pair).

    Layers of one question are averaged before an interval is taken, because the mean of their intervals is wider than
    the interval of their mean. A key that a table lacks is left out.
    """
    tables = list(tables)
    keys = [key for key in tables[0] if all(table.get(key) is not None for table in tables)]
    return {key: float(np.mean([table[key] for table in tables])) for key in keys}


def combined(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """Return Σ w estimate of independent estimates, such as networks of several widths.

    The error is √Σ w² error², its degrees of freedom (Σ w² error²)² / Σ (w² error²)²/freedom (Welch 1947,
    Satterthwaite 1946). There is no error unless all estimates have one.
    """
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    errors = [estimate.error for estimate in estimates if estimate.error is not None]
    if len(values) < len(estimates):
        return Estimate(None)
    value = sum(w * v for w, v in zip(weights, values, strict=True))
    if len(errors) < len(estimates):
        return Estimate(value)
    variances = [(w * error) ** 2 for w, error in zip(weights, errors, strict=True)]
    below = sum(v**2 / estimate.freedom for v, estimate in zip(variances, estimates, strict=True))
    freedom = sum(variances) ** 2 / below if below else min(estimate.freedom for estimate in estimates)
    return Estimate(value, math.sqrt(sum(variances)), freedom)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b of independent groups of networks, by `combined`."""
    return combined([a, b], [1, -1])


def slope(places: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """Return the slope of the least-squares line through independent estimates, by `combined`; such as over log₂ width.

    Raises ValueError for fewer than two different places.
    """
    x = np.asarray(places, dtype=np.float64) - np.mean(places)
    if not x.any():
        raise ValueError("a slope needs two different places")
    return combined(estimates, (x / np.square(x).sum()).tolist())


def bonferroni(count: int, level: float = LEVEL) -> float:
    """Return the level of each of `count` intervals that hold their truths all at once with the given level."""
    return 1 - (1 - level) / count


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979), in the same order: below 0.05 each holds among all."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.maximum.accumulate((len(p_values) - np.arange(len(p_values))) * np.asarray(p_values)[order])
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(adjusted, 1)
    return corrected.tolist()
