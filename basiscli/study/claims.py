"""The four claims: what a study's records say about each, by the rules of docs/study.md. Records in, verdicts out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from basiscli.analysis import statistics
from basiscli.study.rules import c1, c2, c3, c4
from basiscli.study.verdict import SIGNIFICANCE, UNDECIDED, Record, Verdict, missing, told

STATEMENTS = {
    "C1": "An arbitrary rotation of a representation cannot be inverted by training, unlike in a linear network.",
    "C2": "Networks that differ only in their seed do not converge to one basis, not even wide ones.",
    "C3": "The basis correlation rises when a few early layers are frozen identically.",
    "C4": "Linear mode connectivity improves with width, but not because the basis correlation does.",
}
QUESTIONS = {
    "C1": "Does it matter to training which axes a representation has?",
    "C2": "Do networks from different seeds find different neurons, even wide ones?",
    "C3": "Do shared first layers make the next layers agree: in what they span (space), and neuron by neuron (axes)?",
    "C4": "Are wide networks easier to merge, for another reason than neurons that agree more?",
}
COMMANDS = {"C1": "rotate", "C2": "correlate", "C3": "freeze", "C4": "connectivity"}
RULES: Mapping[str, Callable[[Sequence[Record]], Sequence[Verdict]]] = {
    "C1": lambda records: [c1.judge(records)],
    "C2": lambda records: [c2.judge(records)],
    "C3": c3.judge,
    "C4": lambda records: [c4.judge(records)],
}


def verdicts(tables: Mapping[str, Sequence[Record]], gone: Mapping[str, Sequence[str]] | None = None) -> list[Verdict]:
    """Return the verdicts on all four claims, C3's two among them, from the records of each command by its name.

    gone: by command, the steps whose records are not there. A claim that lacks a step is undecided, so that no other
    width or layer takes the place of the one that the plan asked for.
    """
    found: list[Verdict] = []
    for claim, command in COMMANDS.items():
        lost = list((gone or {}).get(command, ()))
        if not tables.get(command) and not lost:
            lost = [f"of {command}"]
        parts = c3.PARTS if claim == c3.CLAIM else ("",)
        found += [missing(claim, lost, part=part) for part in parts] if lost else RULES[claim](tables[command])
    return adjusted(found)


def adjusted(found: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts with what is left of each among all (Holm 1979): undecided unless the adjusted p is below 0.05.

    A verdict that rests on no test counts as p = 1.
    """
    p_values = statistics.holm([1.0 if one.p is None else one.p for one in found])
    return [
        replace(
            one,
            adjusted=one.verdict if one.p is None or p < SIGNIFICANCE else UNDECIDED,
            adjusted_p=None if one.p is None else p,
        )
        for one, p in zip(found, p_values, strict=True)
    ]


def record(verdict: Verdict) -> dict:
    """Return a verdict as a record."""
    effect = verdict.effect or statistics.Estimate(None)
    low, high = effect.interval()
    return {
        "claim": verdict.claim, "part": verdict.part or None, "statement": STATEMENTS[verdict.claim],
        "question": QUESTIONS[verdict.claim], "verdict": verdict.verdict, "adjusted": verdict.adjusted,
        "p": verdict.p, "adjusted_p": verdict.adjusted_p, "measure": verdict.measure,
        "effect": effect.value, "effect_low": low, "effect_high": high,
        "effect_told": told(verdict.effect, verdict.unit),
        "thresholds": dict(verdict.thresholds), "because": verdict.because, "refuted_by": verdict.refuted_by,
        "networks": verdict.trained.get("networks"), "trained": dict(verdict.trained),
        "controls": dict(verdict.controls), "beside": dict(verdict.beside),
    }  # fmt: skip
