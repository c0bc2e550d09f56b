"""C1: a rotation leaves a training loss that a permutation does not leave, and linear networks do not care."""

import math
from collections.abc import Iterable, Mapping, Sequence

from basiscli.analysis import statistics
from basiscli.analysis.statistics import Estimate
from basiscli.study.verdict import (
    FEWEST_UNITS,
    MIXED,
    UNDECIDED,
    UNINFORMATIVE,
    Condition,
    Record,
    Verdict,
    few_networks,
    mean,
    missing,
    name_of,
    number,
    settle,
    told,
    width_number,
)

CLAIM = "C1"
# ρ that is too little to call a loss, and that untrained networks may have.
FLAT, UNTRAINED_FLAT = math.log(1.02), math.log(1.1)
# How much longer the second retraining is.
LONGER = 4
REFUTED_BY = "At 4E epochs, every layer's interval below ln 1.02 = 0.020: a training loss less than 2 % higher."
MEASURE = "rho: ln of the training loss after a rotation over that after a permutation, mean over layers, width {}"
NETWORKS, LINEAR, UNTRAINED = "networks", "linear twins", "untrained"


def judge(records: Sequence[Record]) -> Verdict:
    """Return the verdict on C1 from the records of `rotate`."""
    found = losses(records)
    if lost := _missing(found):
        return missing(CLAIM, lost, refuted_by=REFUTED_BY)
    short, long = lengths(found)
    verdict, because, p = _settled(found, short, long)
    effect = over_layers(found[NETWORKS, long])
    return Verdict(
        CLAIM, verdict, because, measure=MEASURE.format(name_of(widest(records))), effect=effect,
        thresholds={"refutes below": FLAT, "zero": 0.0}, refuted_by=REFUTED_BY, p=p, controls=_told_controls(found),
        beside=_beside(found, short, long), trained=_trained(found[NETWORKS, long]),
    )  # fmt: skip


def contrasts(records: Iterable[Record]) -> list[Record]:
    """Return the records of whole rotations over permutations, of layers that are large enough, at the widest width."""
    found = [
        r for r in records if r["kind"] == "orthogonal" and r["over"] == "permutation" and r["units"] >= FEWEST_UNITS
    ]
    strongest = max((r["power"] or 1 for r in found), default=1)
    width = widest(found)
    return [r for r in found if (r["power"] or 1) == strongest and (width is None or width_number(r["width"]) == width)]


def widest(records: Iterable[Record]) -> float | None:
    """Return the greatest width that networks were rotated at."""
    return max((width_number(r["width"]) for r in records if "width" in r), default=None)


def losses(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return the contrasts, a record a layer, by what the networks are and the epochs of retraining."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in contrasts(records):
        what = LINEAR if record["activation"] == "linear" else NETWORKS
        what = UNTRAINED if record["trained_epochs"] == 0 else what
        found.setdefault((what, record["epochs"]), []).append(record)
    return found


def lengths(found: Mapping[tuple[str, int], object]) -> tuple[int, int]:
    """Return the shortest and the longest retraining of the networks that the claim is about."""
    epochs = [of for what, of in found if what == NETWORKS]
    return min(epochs), max(epochs)


def of_layer(record: Record) -> dict[int, float]:
    """Return ρ of each network, by its place."""
    return {place: rho for place, rho in enumerate(record["log_loss_ratios"]) if rho is not None}


def over_layers(rows: Sequence[Record]) -> Estimate:
    """Return ρ, mean over layers within each network, its interval over networks."""
    return statistics.over_sample(statistics.averaged([of_layer(row) for row in rows]).values())


def _missing(found: Mapping[tuple[str, int], Sequence[Record]]) -> list[str]:
    if not any(what == NETWORKS for what, _ in found):
        return ["rotations of trained networks"]
    short, long = lengths(found)
    lost = [f"retraining of {LONGER} times as many epochs as {short}"] if long < LONGER * short else []
    lost += [f"{LINEAR}, {epochs} epochs" for epochs in sorted({short, long}) if (LINEAR, epochs) not in found]
    return lost + ([] if any(what == UNTRAINED for what, _ in found) else ["untrained networks"])


def _settled(found: Mapping, short: int, long: int) -> tuple[str, str, float | None]:
    networks = min(len(of_layer(row)) for row in found[NETWORKS, long])
    if few := few_networks(networks):
        return UNDECIDED, few, None
    if failed := [str(one) for one in controls(found) if not one.holds]:
        return UNINFORMATIVE, f"a control failed: {'; '.join(failed)}", None
    shown = []
    for epochs in (short, long):
        rho, linear = over_layers(found[NETWORKS, epochs]), over_layers(found[LINEAR, epochs])
        shown.append(Condition(f"after {epochs} epochs rho", rho, 0))
        shown.append(Condition(f"after {epochs} epochs rho beyond linear twins", statistics.difference(rho, linear), 0))
    layers = {row["layer"]: statistics.over_sample(of_layer(row).values()) for row in found[NETWORKS, long]}
    refuted = [Condition(f"rho of {layer}", one, FLAT, above=False) for layer, one in layers.items()]
    flat = [c.words for c in _each(layers, FLAT, above=False) if c.holds]
    lost = [c for c in _each(layers, 0, above=True) if c.holds and c.words not in flat]
    if flat and lost:
        names = ", ".join(one.words for one in lost)
        return MIXED, f"layers disagree: a rotation costs {names}, and not {', '.join(flat)}", max(c.p for c in lost)
    return settle(shown, refuted)


def _each(layers: Mapping[str, Estimate], bound: float, above: bool) -> list[Condition]:
    return [Condition(layer, one, bound, above, count=len(layers)) for layer, one in layers.items()]


def controls(found: Mapping[tuple[str, int], Sequence[Record]]) -> list[Condition]:
    """Return the conditions that the zeros must meet: ρ within ± ln 1.02 of linear twins, ± ln 1.1 of untrained."""
    checks = []
    for (what, epochs), rows in sorted(found.items()):
        if what != NETWORKS:
            bound = FLAT if what == LINEAR else UNTRAINED_FLAT
            words, rho = f"rho of {what} after {epochs} epochs", over_layers(rows)
            checks += [Condition(words, rho, bound, above=False), Condition(words, rho, -bound)]
    return checks


def _told_controls(found: Mapping) -> dict[str, str]:
    return {
        f"{what}, {epochs} epochs": told(over_layers(rows))
        for (what, epochs), rows in sorted(found.items()) if what != NETWORKS
    }  # fmt: skip


def _beside(found: Mapping, short: int, long: int) -> dict[str, str]:
    rows = found[NETWORKS, long]
    points = mean(row.get("penalty_accuracy") for row in rows)
    nats = mean(row.get("penalty_train_loss") for row in rows)
    return {
        f"after {short} epochs": told(over_layers(found[NETWORKS, short])),
        "accuracy lost": number(points, "points"),
        "training loss added": number(nats, "nats"),
    }


def _trained(rows: Sequence[Record]) -> dict[str, object]:
    first = rows[0]
    return {
        "networks": first["networks"], "epochs": first["trained_epochs"], "optimizer": first.get("optimizer"),
        "accuracy": first.get("base_accuracy"), "width": first.get("width"),
    }  # fmt: skip
