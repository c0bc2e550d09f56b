"""What a rule says of a claim: conditions on estimates, and the verdict that they make (docs/study.md)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from basiscli.analysis.statistics import Estimate, bonferroni

SHOWN, REFUTED, MIXED, UNDECIDED, NOT_APPLICABLE, UNINFORMATIVE = VERDICTS = (
    "shown", "refuted", "mixed", "undecided", "not applicable", "uninformative"
)  # fmt: skip
MISSING = "records missing"
# A verdict needs so many networks, and layers of so many units.
FEWEST_NETWORKS, FEWEST_UNITS = 5, 16
# The significance of a verdict: that of its 95 % intervals.
SIGNIFICANCE = 0.05

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """That an estimate lies above a bound, or below it, with its whole interval.

    count: how many intervals must hold their truths all at once (Bonferroni). unit: "points" and "%" write fractions as
    hundredths; all else is written as it is.
    """

    words: str
    estimate: Estimate
    bound: float
    above: bool = True
    count: int = 1
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the interval lies on the right side of the bound; False without an interval."""
        low, high = self.estimate.interval(bonferroni(self.count))
        if low is None or high is None:
            return False
        return low > self.bound if self.above else high < self.bound

    @property
    def p(self) -> float:
        """The p value: below 0.05 where the condition holds, 1 where the value lies on the wrong side."""
        p = self.estimate.p_value(self.bound)
        if p is None or self.estimate.value is None or (self.estimate.value > self.bound) != self.above:
            return 1.0
        return min(1.0, self.count * p)

    def __str__(self) -> str:
        side = "above" if self.above else "below"
        value = told(self.estimate, self.unit, self.count)
        verb = "lies" if self.holds else "does not lie"
        return f"{self.words} {value} {verb} {side} {number(self.bound, self.unit)}"


def all_hold(conditions: Sequence[Condition]) -> bool:
    """Whether there are conditions, and all of them hold."""
    return bool(conditions) and all(one.holds for one in conditions)


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim.

    part: which of a claim's verdicts it is. because: the clause that decided. measure: what `effect` is of, in words.
    thresholds: by name, where a line in the figure lies, in the unit of the effect. refuted_by: what would have refuted
    the claim. p: of the conditions that decided; None where nothing was tested. controls, beside: by name, what else a
    reader should see. trained: what the networks are.
    """

    claim: str
    verdict: str
    because: str
    part: str = ""
    measure: str = ""
    effect: Estimate | None = None
    unit: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    refuted_by: str = ""
    p: float | None = None
    controls: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    adjusted: str | None = None
    adjusted_p: float | None = None

    @property
    def name(self) -> str:
        """Claim and part."""
        return f"{self.claim} {self.part}".rstrip()


def missing(claim: str, what: Iterable[str], **more: Any) -> Verdict:
    """Return the verdict where records are missing, by name."""
    return Verdict(claim, UNDECIDED, f"{MISSING}: {'; '.join(what)}", **more)


def few_networks(networks: int) -> str | None:
    """Return why so many networks are too few for a verdict, None if they are not."""
    if networks >= FEWEST_NETWORKS:
        return None
    return f"{networks} networks; a verdict needs {FEWEST_NETWORKS}"


def settle(shown: Sequence[Condition], refuted: Sequence[Condition]) -> tuple[str, str, float]:
    """Return verdict, reason and p of two sets of conditions, each of which must hold as a whole.

    p is the largest of a set, since all of them are needed (Berger 1982). Where both sets hold the effect is certain
    and too small to count: mixed.
    """
    if all_hold(shown) and all_hold(refuted):
        return MIXED, f"certain, but small: {refuted[0]}", max(one.p for one in (*shown, *refuted))
    if all_hold(shown):
        return SHOWN, "; ".join(map(str, shown)), max(one.p for one in shown)
    if all_hold(refuted):
        return REFUTED, "; ".join(map(str, refuted)), max(one.p for one in refuted)
    failed = [str(one) for one in shown if not one.holds]
    return UNDECIDED, "; ".join(failed), 1.0


def number(value: float | None, unit: str = "") -> str:
    """Return a value as people write it."""
    return "unknown" if value is None else f"{_digits(value, unit)} {unit}".rstrip()


def told(estimate: Estimate | None, unit: str = "", count: int = 1) -> str:
    """Return an estimate with its interval, at the level of `count` intervals at once."""
    if estimate is None or estimate.value is None:
        return "unknown"
    low, high = estimate.interval(bonferroni(count))
    if low is None or high is None:
        return f"{number(estimate.value, unit)} (no interval)"
    return f"{number(estimate.value, unit)} ({_digits(low, unit)} to {_digits(high, unit)})"


def _digits(value: float, unit: str) -> str:
    """Return a number without its unit; a zero has no sign."""
    text = f"{100 * value:.1f}" if unit in ("points", "%") else f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def name_of(width: object) -> str:
    """Return a width as people write it: 16, or 1/4 for 0.25."""
    return str(Fraction(width_number(width)).limit_denominator(64))


def width_number(width: object) -> float:
    """Return a width as a number: 16, 0.5, or a fraction such as 1/4."""
    above, _, below = str(width).partition("/")
    return float(above) / float(below or 1)


def estimate_of(record: Record, name: str) -> Estimate:
    """Return a field of a record with the error over its networks."""
    return Estimate(record.get(name), record.get(f"{name}_error"), record["networks"] - 1)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
