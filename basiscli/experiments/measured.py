"""What was measured of networks that were trained alike, by pair and by network, and what follows with intervals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from basiscli.analysis import statistics
from basiscli.analysis.assess import SCORES, SHARE_OF
from basiscli.analysis.statistics import Estimate

# Fields of a record of a pair: of the pair, and of each of its networks (with the suffixes _a and _b).
OF_PAIRS = (*SCORES, "cka", "barrier", "matched_barrier")
OF_NETWORKS = ("test_accuracy", "privilege", "dead")
# The fields that lie between -1 and 1.
BOUNDED = frozenset({*SCORES, "cka", "test_accuracy"})
# What a mean over networks says, in order, and what it says of the difference to other networks.
ESTIMATES = ("share", *OF_NETWORKS, *OF_PAIRS)
RISES = ("share", "privilege", "test_accuracy")
# The fields of both in a record.
FIELDS = tuple(f"{name}{end}" for name in ESTIMATES for end in statistics.ENDS)
RISE_FIELDS = tuple(f"{name}_rise{end}" for name in RISES for end in statistics.ENDS)
# The name of the mean over layers among layers.
ALL = "all"

Pair = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """Values by pair of seeds for each of OF_PAIRS, and by seed for each of OF_NETWORKS; None where undefined."""

    pairs: Mapping[str, Mapping[Pair, float | None]]
    networks: Mapping[str, Mapping[int, float | None]]

    @classmethod
    def of(cls, records: Sequence[Mapping]) -> "Measured":
        """Return what the records of all pairs say of one layer."""
        pairs = {name: {(r["seed_a"], r["seed_b"]): r[name] for r in records} for name in OF_PAIRS}
        networks = {
            name: {r[f"seed_{side}"]: r[f"{name}_{side}"] for r in records for side in "ab"} for name in OF_NETWORKS
        }
        return cls(pairs, networks)

    @classmethod
    def mean(cls, parts: Sequence["Measured"]) -> "Measured":
        """Return the mean over layers or conditions of the same networks, of what all of them have."""
        return cls(
            {name: statistics.averaged(part.pairs[name] for part in parts) for name in OF_PAIRS},
            {name: statistics.averaged(part.networks[name] for part in parts) for name in OF_NETWORKS},
        )

    def estimate(self, name: str) -> Estimate:
        """Return the mean over pairs or networks of a field, or the share of the means, with its error over networks.

        There is no error for fewer than three networks.
        """
        if name == "share":
            return statistics.share_over_networks(*(self.pairs[part] for part in SHARE_OF))
        if name in OF_NETWORKS:
            return _over_seeds(self.networks[name])
        return statistics.over_networks(self.pairs[name])

    def rise(self, name: str, over: "Measured") -> Estimate:
        """Return by how much a field is higher than for other networks of the same seeds.

        The networks of a seed are one draw: differences are taken by seed or pair of seeds, and their error is
        over seeds.
        """
        if name == "share":
            return statistics.rise_of_share(*([of.pairs[part] for part in SHARE_OF] for of in (self, over)))
        if name in OF_NETWORKS:
            mine, theirs = self.networks[name], over.networks[name]
            return _over_seeds({seed: _difference(mine[seed], theirs[seed]) for seed in mine if seed in theirs})
        return statistics.rise(self.pairs[name], over.pairs[name])

    def fields(self) -> dict[str, float | None]:
        """Return all estimates as the fields of a record."""
        fields: dict[str, float | None] = {}
        for name in ESTIMATES:
            fields |= self.estimate(name).fields(name, 1 if name in BOUNDED else math.inf)
        return fields

    def rises(self, over: "Measured | None") -> dict[str, float | None]:
        """Return the rises over other networks as the fields of a record, all None without such networks."""
        fields: dict[str, float | None] = {}
        for name in RISES:
            estimate = Estimate(None) if over is None else self.rise(name, over)
            fields |= estimate.fields(f"{name}_rise", 2 if name in BOUNDED else math.inf)
        return fields


def by_layer(records: Iterable[Mapping]) -> dict[str, Measured]:
    """Return what the records of pairs say of each layer and, last, of ALL, their mean.

    Layers are averaged within a pair or network, before any interval is taken.
    """
    found: dict[str, list[Mapping]] = {}
    for record in records:
        found.setdefault(record["layer"], []).append(record)
    layers = {layer: Measured.of(of_layer) for layer, of_layer in found.items()}
    return layers | {ALL: Measured.mean(list(layers.values()))}


def told(record: Mapping, name: str, sign: bool = False) -> str:
    """Return a field of a record in words, with its interval in brackets. sign: also a plus before what is above 0."""
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "undefined"
    text = f"{value:+.2f}" if sign else f"{value:.2f}"
    return text if low is None else f"{text} ({low:.2f} to {high:.2f})"


def _over_seeds(values: Mapping[int, float | None]) -> Estimate:
    known = {(seed, 0): value for seed, value in values.items() if value is not None}
    return statistics.over_runs(known) if known else Estimate(None)


def _difference(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or theirs is None else mine - theirs
