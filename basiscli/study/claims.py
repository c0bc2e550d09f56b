"""The four claims: what a study's records say about each, by the rules of docs/study.md. Records in, verdicts out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from basiscli.analysis import statistics
from basiscli.analysis.assess import SHARE_OF

SHOWN, REFUTED, UNDECIDED = "shown", "refuted", "undecided"
STATEMENTS = {
    "C1": "An arbitrary rotation of a representation cannot be inverted by training, unlike in a linear network.",
    "C2": "Networks that differ only in their seed do not converge to one basis, not even wide ones.",
    "C3": "The basis correlation rises when a few early layers are frozen identically.",
    "C4": "Linear mode connectivity improves with width, but not because the basis correlation does.",
}
# C1: an accuracy that is too little to call a loss. C2: the share of the way from the rotated null to the aligned
# ceiling, below which networks are far from one basis and above which they have one. C3, C4: a correlation that is too
# little to call a rise. C4: the part of the narrowest networks' barrier that is too little to call a fall.
LOSS, FAR, NEAR, RISE, FALL = 0.005, 0.5, 0.8, 0.02, 0.1

Record = Mapping[str, object]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval over networks; without an interval nothing is certain.

    unit: what it is written in: `points` and `%` for fractions, anything else as it is. error, freedom: the standard
    error and its degrees of freedom.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    error: float | None = None
    freedom: float = 0.0

    @classmethod
    def of(cls, record: Record, field: str, unit: str = "") -> "Estimate | None":
        """Return a field of a record with its interval, None if the record has no value."""
        if record.get(field) is None:
            return None
        ends = (record.get(f"{field}_{end}") for end in ("low", "high"))
        return cls(record[field], *ends, unit, record.get(f"{field}_error"), record["networks"] - 1)

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def above(self, bound: float) -> bool:
        """Whether the whole interval lies above a bound."""
        return self.known and self.low > bound

    def below(self, bound: float) -> bool:
        """Whether the whole interval lies below a bound."""
        return self.known and self.high < bound

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the difference of two independent estimates, its interval by Welch (`statistics.combined`)."""
        own, others = (statistics.Estimate(one.value, one.error, one.freedom) for one in (self, other))
        found = statistics.difference(own, others)
        return Estimate(found.value, *found.interval(), self.unit, found.error, found.freedom)

    def __str__(self) -> str:
        scale, digits = (100, ".1f") if self.unit in ("points", "%") else (1, ".3f")
        text = f"{scale * self.value:{digits}} {self.unit}".rstrip()
        if not self.known:
            return f"{text} (no interval)"
        return f"{text} ({scale * self.low:{digits}} to {scale * self.high:{digits}})"


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim: the estimate that the rule looks at, and the clause that decided.

    measure: what the estimate is of, in words; beside: other estimates that a reader should see with it.
    """

    claim: str
    verdict: str
    because: str
    measure: str = ""
    effect: Estimate | None = None
    networks: int | None = None
    beside: Mapping[str, Estimate] | None = None

    def record(self) -> dict:
        """Return it as a record."""
        effect = self.effect or Estimate(None)
        return {
            "claim": self.claim, "statement": STATEMENTS[self.claim], "verdict": self.verdict, "measure": self.measure,
            "effect": effect.value, "effect_low": effect.low, "effect_high": effect.high, "networks": self.networks,
            "because": self.because, "beside": {name: str(one) for name, one in (self.beside or {}).items()},
        }  # fmt: skip


def verdicts(tables: Mapping[str, Sequence[Record]]) -> list[Verdict]:
    """Return the verdicts on all four claims from the records of each command, by the command's name."""
    rules = {"C1": ("rotate", c1), "C2": ("correlate", c2), "C3": ("freeze", c3), "C4": ("connectivity", c4)}
    found = []
    for claim, (command, rule) in rules.items():
        verdict = rule(tables[command]) if tables.get(command) else None
        found.append(verdict or Verdict(claim, UNDECIDED, f"no records of {command} that it could be read from"))
    return found


def c1(records: Sequence[Record]) -> Verdict | None:
    """A rotation costs accuracy beyond what a permutation does, and more so than in linear networks."""
    relu, linear = (_contrast(records, is_linear, "penalty_accuracy", "points") for is_linear in (False, True))
    if relu is None:
        return None
    networks = max(record["networks"] for record in records)
    beside = {"in linear networks": linear, "training loss": _contrast(records, False, "penalty_train_loss", "nats")}
    verdict, because = _c1(relu, linear)
    widths = list(dict.fromkeys(name_of(record["width"]) for record in records if "width" in record))
    over = f" and widths {', '.join(widths)}" if len(widths) > 1 else ""
    measure = f"of accuracy lost by a rotation beyond a permutation, mean over layers{over}"
    return Verdict("C1", verdict, because, measure, relu, networks, {k: v for k, v in beside.items() if v})


def _c1(relu: Estimate, linear: Estimate | None) -> tuple[str, str]:
    if relu.below(LOSS):
        return REFUTED, f"a rotation costs less than {100 * LOSS} points of accuracy"
    if not relu.above(0):
        return UNDECIDED, "the interval of the loss holds 0"
    if linear is None:
        return UNDECIDED, "no linear networks to compare with"
    if relu.minus(linear).above(0):
        return SHOWN, "a rotation costs accuracy for certain, and more than in linear networks"
    if relu.minus(linear).below(LOSS):
        return REFUTED, "a rotation costs linear networks as much"
    return UNDECIDED, "a rotation costs accuracy, but not for certain more than in linear networks"


def _contrast(records: Iterable[Record], linear: bool, field: str, unit: str) -> Estimate | None:
    """Return orthogonal minus permutation, mean over layers and widths.

    The ends are averaged like the value: right where layers move together, too wide otherwise.
    """
    rows = [one for row in contrasts(records) if row["linear"] == linear and (one := Estimate.of(row, field))]
    if not rows:
        return None
    value = _mean(one.value for one in rows)
    if not all(one.known for one in rows):
        return Estimate(value, unit=unit)
    low, high, error = (_mean(getattr(one, part) for one in rows) for part in ("low", "high", "error"))
    return Estimate(value, low, high, unit, error, rows[0].freedom)


def contrasts(records: Iterable[Record]) -> list[dict]:
    """Return the records of whole rotations over permutations, each told whether its networks are linear."""
    found = [r for r in records if r["kind"] == "orthogonal" and r["over"] == "permutation"]
    strongest = max((r["power"] or 1 for r in found), default=1)
    return [{**r, "linear": r["activation"] == "linear"} for r in found if (r["power"] or 1) == strongest]


def c2(records: Sequence[Record]) -> Verdict | None:
    """The widest networks are far from one basis: less than half of the way from rotated null to aligned ceiling."""
    rows = [row for row in by_width(records) if row["share"] is not None]
    if not rows:
        return None
    widest = rows[-1]
    share = Estimate.of(widest, "share", "%")
    if share.below(FAR):
        verdict, because = SHOWN, f"less than {100 * FAR:.0f} % of the way from the rotated null to the aligned ceiling"
    elif share.above(NEAR):
        verdict, because = (
            REFUTED,
            f"more than {100 * NEAR:.0f} % of the way from the rotated null to the aligned ceiling",
        )
    else:
        verdict, because = UNDECIDED, f"the interval is neither below {100 * FAR:.0f} % nor above {100 * NEAR:.0f} %"
    names = {"matched correlation": "matched", "rotated null": "null", "aligned ceiling": "ceiling"}
    beside = {name: Estimate.of(widest, field) for name, field in names.items()}
    measure = f"of the way from the rotated null to the aligned ceiling, width {name_of(widest['width'])}"
    return Verdict("C2", verdict, because, measure, share, widest["networks"], beside)


def by_width(records: Sequence[Record]) -> list[dict]:
    """Return a row a width: means over layers and pairs, with intervals, of `correlate`'s records of pairs.

    share is (matched - null) / (ceiling - null): 0 where the axes are as arbitrary as a rotation would make them, 1
    where units pair up as well as the spaces allow.
    """
    pairs: dict[object, dict] = {}
    for record in records:
        if record.get("pairs", 1) == 1:
            pairs.setdefault(record["width"], {}).setdefault((record["a"], record["b"]), []).append(record)
    return [_width_row(width, pairs[width]) for width in sorted(pairs, key=_number)]


def _width_row(width: object, pairs: Mapping[tuple[str, str], Sequence[Record]]) -> dict:
    scores = [{pair: _mean(r.get(field) for r in rows) for pair, rows in pairs.items()} for field in SHARE_OF]
    row = {"width": width, "networks": len({one for pair in pairs for one in pair})}
    for name, values in zip(("matched", "null", "ceiling"), scores, strict=True):
        row |= statistics.over_networks(values).fields(name, bound=1)
    return row | statistics.share_over_networks(*scores).fields("share")


def c3(records: Sequence[Record]) -> Verdict | None:
    """The layer after the longest prefix of a trained donor correlates more than in free networks."""
    rows = rises(records)
    if not rows:
        return None
    last = rows[-1]
    rise, excess = Estimate.of(last, "rise"), Estimate.of(last, "excess_rise")
    if rise is None:
        return None
    if rise.above(0):
        verdict, because = (
            SHOWN,
            f"the correlation rises for certain; its excess over the rotated null {_direction(excess)}",
        )
    elif rise.below(RISE):
        verdict, because = REFUTED, f"the correlation rises by less than {RISE}"
    else:
        verdict, because = UNDECIDED, "the interval of the rise holds 0"
    measure = f"rise of the correlation at {last['layer']}, {last['prefix']} layers frozen"
    beside = {"rise of the excess over the rotated null": excess} if excess else {}
    return Verdict("C3", verdict, because, measure, rise, last["networks"], beside)


def rises(records: Sequence[Record]) -> list[dict]:
    """Return the records of the first layer after each prefix of a trained donor, in the widest networks."""
    trained = [r for r in records if r["donor"] == "trained" and r["prefix"]]
    widest = max((_number(r["width"]) for r in trained), default=0)
    first: dict[int, Record] = {}
    for record in trained:
        if _number(record["width"]) == widest:
            first.setdefault(record["prefix"], record)
    return [dict(first[prefix]) for prefix in sorted(first)]


def _direction(excess: Estimate | None) -> str:
    if excess is None or not excess.known:
        return "is not known"
    return "rises, too" if excess.above(0) else "falls" if excess.below(0) else "does not for certain"


def c4(records: Sequence[Record]) -> Verdict | None:
    """The barrier falls with width while the correlation stays, or falls at equal correlation."""
    rows = barriers(records)
    if len(rows) < 2:
        return None
    narrow, wide = rows[0], rows[-1]
    barrier = Estimate.of(narrow, "barrier")
    fall = barrier.minus(Estimate.of(wide, "barrier"))
    rise = Estimate.of(wide, "matched_held_out").minus(Estimate.of(narrow, "matched_held_out"))
    degraded = Estimate.of(wide, "degraded")
    equal = barrier.minus(degraded) if degraded else None
    verdict, because = _c4(barrier, fall, rise, equal)
    beside = {"change of the correlation": rise} | ({"fall at equal correlation": equal} if equal else {})
    widths = f"{name_of(narrow['width'])} to {name_of(wide['width'])}"
    measure = f"fall of the loss barrier, nats, from width {widths}, {wide['condition']}"
    return Verdict("C4", verdict, because, measure, fall, wide["networks"], beside)


def _c4(barrier: Estimate, fall: Estimate, rise: Estimate, equal: Estimate | None) -> tuple[str, str]:
    if fall.below(FALL * barrier.value):
        return REFUTED, f"the barrier falls by less than {100 * FALL:.0f} % of that of the narrowest networks"
    if not fall.above(0):
        return UNDECIDED, "the interval of the barrier's fall holds 0"
    if rise.below(RISE):
        return SHOWN, f"the barrier falls for certain, and the correlation rises by less than {RISE}"
    if equal and equal.above(0):
        return SHOWN, "the barrier falls for certain, also when the matching is undone until no width correlates more"
    if equal and equal.below(fall.value / 2):
        return REFUTED, "at equal correlation more than half of the barrier's fall is gone"
    return UNDECIDED, "the barrier falls, but the correlation may rise, too"


def barriers(records: Sequence[Record]) -> list[dict]:
    """Return a row a width on test images: the record of one condition, and the barrier with the matching degraded.

    The condition is activation matching if it was tried, corrected as BatchNorm or its absence asks if that was tried.
    """
    found = [r for r in records if r["split"] == "test"]
    match = _first(("activations", "both", "weights", "none"), {r["match"] for r in found})
    correct = _first(("reset-bn", "repair", "none"), {r["correct"] for r in found if r["match"] == match})
    rows = []
    for record in sorted(found, key=lambda r: _number(r["width"])):
        if (record["match"], record["correct"]) != (match, correct):
            continue
        key = (record["width"], f"{match}-degraded", correct)
        other = next((r for r in found if (r["width"], r["match"], r["correct"]) == key), {})
        degraded = {f"degraded{end}": other.get(f"barrier{end}") for end in statistics.ENDS}
        rows.append({**record, **degraded, "condition": _condition(match, correct)})
    return rows


def _condition(match: str, correct: str) -> str:
    matched = "without matching" if match == "none" else f"matched by {match}"
    return matched + ("" if correct == "none" else f", {correct}")


def _first(preferred: Sequence[str], there: Iterable[str]) -> str | None:
    return next((name for name in preferred if name in there), None)


def name_of(width: object) -> str:
    """Return a width as people write it: 16, or 1/4 for 0.25."""
    return str(Fraction(_number(width)).limit_denominator(64))


def _number(width: object) -> float:
    """Return a width as a number: 16, 0.5, or a fraction such as 1/4."""
    above, _, below = str(width).partition("/")
    return float(above) / float(below or 1)


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
