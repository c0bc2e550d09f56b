"""C4: matching lowers the barrier more in wide networks, and not because their bases correlate more."""

import math
from collections.abc import Iterable, Mapping, Sequence

from basiscli.analysis import statistics
from basiscli.analysis.barriers import CIRCLE, FEWER, deciding_condition
from basiscli.analysis.statistics import Estimate
from basiscli.study.verdict import (
    FEWEST_UNITS,
    MIXED,
    REFUTED,
    SHOWN,
    UNDECIDED,
    UNINFORMATIVE,
    Condition,
    Record,
    Verdict,
    all_hold,
    estimate_of,
    few_networks,
    missing,
    name_of,
    settle,
    told,
    width_number,
)

CLAIM = "C4"
FEWEST_WIDTHS = 3
# A slope of the log ratio, a doubling of the width, that is too little to call a fall; a rise of a correlation that is
# too little to call one; how far below the lowest correlation a degraded one must lie.
SLOPE, RISE, BELOW = -0.05, 0.02, 0.05
# For rounding: a goal of exactly `BELOW` under the lowest correlation is one.
SLACK = 1e-6
IMAGES = "test"
LOSS, ACCURACY = "barrier_log_ratio", "accuracy_barrier_log_ratio"
REFUTED_BY = (
    "The slope's interval above -0.05; or, once matching on fewer images has made all widths correlate alike, "
    "less than half of the fall left."
)
MEASURE = "slope of ln(barrier / barrier unmatched), a doubling of the width, {} to {}, {}"


def judge(records: Sequence[Record]) -> Verdict:
    """Return the verdict on C4 from the records of `connectivity`."""
    rows = matched(records)
    widths = {width_number(row["width"]) for row in rows}
    if len(widths) < FEWEST_WIDTHS:
        return missing(CLAIM, [f"{FEWEST_WIDTHS} widths, matched and unmatched ({len(widths)} there)"],
                       refuted_by=REFUTED_BY)  # fmt: skip
    made_worse = {name: degraded(records, rows, name) for name in (CIRCLE, FEWER)}
    verdict, because, p = _settled(rows, made_worse)
    names = name_of(rows[0]["width"]), name_of(rows[-1]["width"])
    controls = {_called(name): _told_control(rows, made_worse[name]) for name in made_worse}
    return Verdict(
        CLAIM, verdict, because, measure=MEASURE.format(*names, condition(rows[0])), effect=slope(rows, LOSS),
        thresholds={"refutes above": SLOPE, "zero": 0.0}, refuted_by=REFUTED_BY, p=p, controls=controls,
        beside=_beside(rows), trained={
            "networks": min(row["networks"] for row in rows), "epochs": rows[-1].get("epochs"),
            "optimizer": rows[-1].get("optimizer"), "accuracy": rows[-1].get("test_accuracy"),
            "width": f"{names[0]} to {names[1]}",
        },
    )  # fmt: skip


def matched(records: Iterable[Record]) -> list[Record]:
    """Return a record a width, from the narrowest, on test images: activation matching, corrected if that was tried."""
    found = [r for r in records if r["split"] == IMAGES and r.get(LOSS) is not None]
    deciding = deciding_condition({(r["match"], r["correct"]) for r in found})
    rows = [r for r in found if (r["match"], r["correct"]) == deciding]
    return sorted(rows, key=lambda row: width_number(row["width"]))


def degraded(records: Iterable[Record], rows: Sequence[Record], name: str) -> list[Record]:
    """Return the records of a match made worse, for the widths of `rows`; empty if one is not there."""
    wanted = {row["width"]: (f"{row['match']}{name}", row["correct"], IMAGES) for row in rows}
    found = {r["width"]: r for r in records if (r["match"], r["correct"], r["split"]) == wanted.get(r["width"])}
    return [found[width] for width in wanted] if len(found) == len(wanted) else []


def condition(row: Record) -> str:
    """Return match and correction in words."""
    return f"matched by {row['match']}" + ("" if row["correct"] == "none" else f", {row['correct']}")


def slope(rows: Sequence[Record], field: str) -> Estimate:
    """Return the slope of a field on log2 width, its error from the networks of all widths."""
    places = [math.log2(width_number(row["width"])) for row in rows]
    return statistics.slope(places, [estimate_of(row, field) for row in rows])


def _fall(rows: Sequence[Record]) -> Estimate:
    """Return by how much the log ratio falls, a doubling of the width."""
    found = slope(rows, LOSS)
    return Estimate(None if found.value is None else -found.value, found.error, found.freedom)


def rise(rows: Sequence[Record], field: str) -> Estimate:
    """Return a field of the widest networks minus that of the narrowest."""
    return statistics.difference(*(estimate_of(rows[k], field) for k in (-1, 0)))


def applied(rows: Sequence[Record], worse: Sequence[Record]) -> bool:
    """Whether a control did what it should: every width correlates g, which lies 0.05 below the lowest correlation."""
    if not worse or any(row.get("degraded_to") is None for row in worse):
        return False
    lowest = min(row["correlation"] for row in rows)
    return all(
        row.get("equal_correlation") and row["degraded_to"] <= lowest - BELOW + SLACK for row in worse
    )  # fmt: skip


def _settled(rows: Sequence[Record], made_worse: Mapping[str, Sequence[Record]]) -> tuple[str, str, float | None]:
    if few := few_networks(min(row["networks"] for row in rows)):
        return UNDECIDED, few, None
    if other := sorted({str(row.get("correlated_on")) for row in rows} - {IMAGES}):
        return UNINFORMATIVE, f"correlated on {', '.join(other)}, matched and walked on other images", None
    falls = [
        Condition("slope of the loss barrier", slope(rows, LOSS), 0, above=False),
        Condition("slope of the accuracy barrier", slope(rows, ACCURACY), 0, above=False),
    ]
    flat = [Condition("slope of the loss barrier", slope(rows, LOSS), SLOPE)]
    if all_hold(flat):
        return settle(falls, flat)
    if not all_hold(falls):
        return settle(falls, [])
    valid = all(applied(rows, made_worse[name]) for name in (CIRCLE, FEWER))
    if applied(rows, made_worse[FEWER]):
        gone = Condition(
            "fall under matching on fewer images", _fall(made_worse[FEWER]), (_fall(rows).value or 0) / 2, False
        )
        if gone.holds:
            verdict = MIXED if all_hold(_steady(rows)) else REFUTED
            return verdict, f"{gone}, half of the fall", max(gone.p, falls[0].p)
    reasons = _steady(rows)
    left = [Condition(f"fall, {_called(name)}", _fall(made_worse[name]), 0) for name in made_worse] if valid else []
    if all_hold(reasons) or all_hold(left):
        held = reasons if all_hold(reasons) else left
        return SHOWN, "; ".join(map(str, (*falls, *held))), max(one.p for one in (*falls, *held))
    why = "; ".join(str(one) for one in left if not one.holds) if valid else "control not applied"
    return UNDECIDED, f"the barrier falls, but the correlation may rise, too: {why}", 1.0


def _steady(rows: Sequence[Record]) -> list[Condition]:
    """Return that neither the correlation nor its excess over the rotated null rises with width."""
    fields = {
        "matched_held_out": "rise of the correlation",
        "standardised_rotated_held_out_excess": "rise of the excess",
    }
    return [Condition(words, rise(rows, field), RISE, above=False) for field, words in fields.items()]


def _called(name: str) -> str:
    return "equal correlation by a circle" if name == CIRCLE else "equal correlation by fewer images"


def _told_control(rows: Sequence[Record], worse: Sequence[Record]) -> str:
    if not applied(rows, worse):
        return "control not applied"
    return f"slope {told(slope(worse, LOSS))} at a correlation of {worse[0]['degraded_to']:.3f}"


def _beside(rows: Sequence[Record]) -> dict[str, str]:
    correlations = ", ".join(f"{row['matched_held_out']:.2f}" for row in rows)
    told_of = {
        "slope of the accuracy barrier": told(slope(rows, ACCURACY)),
        "correlation over widths": correlations,
        "its rise": told(rise(rows, "matched_held_out")),
        "rise of the excess": told(rise(rows, "standardised_rotated_held_out_excess")),
    }
    # A barrier belongs to the whole network, so small layers are not left out as in other claims. They are named.
    small = [row for row in rows if row.get("fewest_units", FEWEST_UNITS) < FEWEST_UNITS]
    if small:
        widths = ", ".join(f"{row['fewest_units']} at width {name_of(row['width'])}" for row in small)
        told_of[f"layers under {FEWEST_UNITS} units"] = f"the smallest has {widths}"
    return told_of
