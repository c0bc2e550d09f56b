"""C3: frozen early layers raise the correlation of the space, and that of the axes: two verdicts."""

from collections.abc import Iterable, Mapping, Sequence

from basiscli.analysis import statistics
from basiscli.analysis.statistics import Estimate
from basiscli.study.verdict import (
    FEWEST_UNITS,
    MIXED,
    UNDECIDED,
    Condition,
    Record,
    Verdict,
    few_networks,
    mean,
    missing,
    number,
    settle,
    told,
    width_number,
)

CLAIM = "C3"
SPACE, AXES = PARTS = ("space", "axes")
# A verdict needs so many donors.
FEWEST_DONORS = 3
# Rises that are too little to call one: of a correlation, of a share.
RISE, SHARE_RISE = 0.02, 0.05
# By part: the field, what it is in words, the bound that refutes, the unit.
RISES = {
    SPACE: (
        ("rise", "rise of the correlation", RISE, ""),
        ("ceiling_rise", "rise of the aligned ceiling", RISE, ""),
    ),
    AXES: (
        ("standardised_excess_rise", "rise of the excess over the rotated null", RISE, ""),
        ("share_rise", "rise of the share", SHARE_RISE, "points"),
    ),
}
REFUTED_BY = {
    SPACE: "Correlation and ceiling both rise by less than 0.02.",
    AXES: "The excess rises by less than 0.02 and the share by less than 5 points.",
}
TRAINED, INITIAL = "trained", "initial"


def judge(records: Sequence[Record]) -> list[Verdict]:
    """Return the two verdicts on C3, space and axes, from the records of `freeze`."""
    return [_judge(records, part) for part in PARTS]


def _judge(records: Sequence[Record], part: str) -> Verdict:
    rows, untrained = (deepest(records, donor) for donor in (TRAINED, INITIAL))
    donors = {row["donor_seed"] for row in rows}
    lost = [] if len(donors) >= FEWEST_DONORS else [f"{FEWEST_DONORS} trained donors ({len(donors)} there)"]
    lost += [] if untrained else ["an untrained donor"]
    if lost:
        return missing(CLAIM, lost, part=part, refuted_by=REFUTED_BY[part])
    verdict, because, p = _settled(rows, part)
    field, words, bound, unit = RISES[part][0]
    frozen = f"{rows[0]['prefix']} layer{'s' if rows[0]['prefix'] > 1 else ''} frozen"
    measure = f"{words} at {rows[0]['layer']}, {frozen}, over {len(donors)} donors"
    return Verdict(
        CLAIM, verdict, because, part=part, measure=measure, effect=over_donors(rows, field), unit=unit,
        thresholds={"refutes below": bound, "zero": 0.0}, refuted_by=REFUTED_BY[part], p=p,
        controls=_untrained(untrained, part), beside=_beside(rows, part),
        trained={
            "networks": min(row["networks"] for row in rows), "donors": len(donors), "epochs": rows[0].get("epochs"),
            "optimizer": rows[0].get("optimizer"), "accuracy": mean(row.get("test_accuracy") for row in rows),
            "width": rows[0].get("width"),
        },
    )  # fmt: skip


def next_layers(records: Iterable[Record], donor: str) -> dict[int, list[Record]]:
    """Return, by prefix, a record a donor: of the first layer after it that no skip feeds, in the widest networks."""
    found = [r for r in records if r["donor"] == donor and r["prefix"] and r["units"] >= FEWEST_UNITS]
    widest = max((width_number(r.get("width", 0)) for r in found), default=0.0)
    first: dict[tuple[int, int], Record] = {}
    for record in found:
        if width_number(record.get("width", 0)) == widest and not record.get("fed_by_skip"):
            first.setdefault((record["prefix"], record["donor_seed"]), record)
    rows: dict[int, list[Record]] = {}
    for (prefix, _), record in sorted(first.items(), key=lambda item: item[0]):
        rows.setdefault(prefix, []).append(record)
    return rows


def deepest(records: Iterable[Record], donor: str) -> list[Record]:
    """Return the records after the longest prefix, one a donor."""
    rows = next_layers(records, donor)
    return rows[max(rows)] if rows else []


def over_donors(rows: Sequence[Record], field: str) -> Estimate:
    """Return the mean of a rise over donors, its t interval over the donors' means."""
    return statistics.over_sample(row[field] for row in rows if row.get(field) is not None)


def _settled(rows: Sequence[Record], part: str) -> tuple[str, str, float | None]:
    if few := few_networks(min(row["networks"] for row in rows)):
        return UNDECIDED, few, None
    tests = [(words, over_donors(rows, field), bound, unit) for field, words, bound, unit in RISES[part]]
    shown = [Condition(words, rise, 0, unit=unit) for words, rise, _, unit in tests]
    refuted = [Condition(words, rise, bound, above=False, unit=unit) for words, rise, bound, unit in tests]
    for k, other in ((0, 1), (1, 0)):
        if shown[k].holds and not refuted[k].holds and refuted[other].holds and not shown[other].holds:
            return MIXED, f"{shown[k]}, but {refuted[other]}", max(shown[k].p, refuted[other].p)
    return settle(shown, refuted)


def _untrained(rows: Sequence[Record], part: str) -> dict[str, str]:
    found = {}
    for field, words, _, unit in RISES[part]:
        values = " and ".join(number(row.get(field), unit) for row in rows)
        found[f"{words}, untrained donor"] = values
    return found


def _beside(rows: Sequence[Record], part: str) -> dict[str, str]:
    other = RISES[part][1]
    found = {other[1]: told(over_donors(rows, other[0]), other[3])}
    names: Mapping[str, str] = {
        "standardised_rotated_held_out_mean": "rotated null",
        "standardised_aligned_held_out": "aligned ceiling",
        "dead": "dead units",
    }
    return found | {words: number(mean(row.get(name) for row in rows)) for name, words in names.items()}
