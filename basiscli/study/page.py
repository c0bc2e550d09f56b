"""The page of a study: cards of the claims, what was done, words, and tables, as one HTML file."""

import json
import os
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from basiscli.experiments.measured import ALL
from basiscli.names import in_html
from basiscli.study import claims, steps
from basiscli.study.plan import CLAIMS
from basiscli.study.sections import Section
from basiscli.study.steps import Step
from basiscli.study.verdict import MIXED, REFUTED, SHOWN, UNDECIDED, Verdict, name_of, number, told

STYLE = Path(__file__).with_name("report.css")
SIGNS = {SHOWN: "✓", REFUTED: "✕", UNDECIDED: "?", MIXED: "≈"}
# What the page shows of a command's records; the CSV files have all.
COLUMNS = {
    "rotate": ("width", "activation", "layer", "kind", "over", "power", "networks", "failed", "test_accuracy",
               "penalty_accuracy", "penalty_test_loss", "penalty_train_loss"),
    "correlate": ("width", "layer", "units_a", "dead_a", "pairs", "identity", "matched", "matched_held_out",
                  "rotated_held_out_mean", "rotated_held_out_excess", "aligned_held_out"),
    "freeze": ("width", "donor", "prefix", "layer", "dead", "networks", "test_accuracy", "matched_held_out", "rise",
               "excess_rise"),
    "connectivity": ("width", "match", "correct", "split", "pairs", "test_accuracy", "barrier", "midpoint",
                     "accuracy_barrier", "correlation", "matched_held_out", "rotated_held_out_excess"),
    "evolve": ("epoch", "networks", "share", "privilege", "standardised_aligned_held_out", "cka", "test_accuracy",
               "barrier", "matched_barrier"),
    "compare": ("name", "networks", "diverged", "share", "share_rise", "privilege", "privilege_rise", "test_accuracy",
                "test_accuracy_rise"),
}  # fmt: skip
TITLES = {
    "rotate": "Rotations", "correlate": "Correlations, means over pairs", "freeze": "Frozen layers",
    "connectivity": "Barriers",
}  # fmt: skip
# Ten words that a reader needs.
GLOSSARY = {
    "unit": "a neuron of a dense layer, or a channel of a convolution",
    "basis": "the axes of a layer's activations, one a unit",
    "matched correlation": "mean correlation of two networks' units under the best one-to-one pairing; held out: paired"
    " on half of the images, scored on the other",
    "rotated null": "the same score after one network was given arbitrary axes of the same space",
    "aligned ceiling": "the score after the best rotation of one network onto the other",
    "share": "(matched - null) / (ceiling - null): 0 for arbitrary axes, 1 where units pair up as well as spaces allow",
    "linear twin": "a network of the same size without nonlinearities: it has no preferred axes, so it is a zero",
    "barrier": "how far the loss on the straight line between two networks rises above the line between their losses",
    "donor": "the network whose first layers others share, frozen",
    "95 % interval": "a range over networks or donors that holds the true value in 95 of 100 studies",
}
REFERENCE = (
    "Brown, Vyas and Bansal, On Privileged and Convergent Bases in Neural Network Representations, HiLD workshop at"
    " ICML 2023, arXiv 2307.12941"
)


@dataclass(frozen=True)
class Study:
    """What a page is made of: the plan's text, the steps with how they went, those that lack files, the records."""

    name: str
    plan: str
    steps: Sequence[Step]
    states: Mapping[str, Mapping]
    lacking: Sequence[str]
    tables: Mapping[str, Sequence[Mapping]]


def render(
    study: Study, verdicts: Sequence[Verdict], figures: Mapping[str, tuple[str, str]], below: Sequence[Section] = ()
) -> str:
    """Return the page. figures: by claim, SVG and what it shows in words. below: sections below the claims."""
    by_claim = {claim: [one for one in verdicts if one.claim == claim] for claim in claims.STATEMENTS}
    cards = "".join(_card(claim, of, figures.get(claim)) for claim, of in by_claim.items())
    tables = study.tables
    parts = [
        *(_below(section, tables[section.name]) for section in below),
        _section("What was done", _done(study, verdicts)),
        _section("Ten words", _glossary()),
        *(_table(TITLES[command], command, _rows(command, tables[command])) for command in CLAIMS if command in tables),
        _section("Failed steps", _failures(study.steps, study.states)),
        _section("Plan", f"<pre>{in_html(study.plan)}</pre>"),
        _section("Commands and times", _commands(study.steps, study.states)),
        _section("Versions and machines", _versions(study.states)),
        _section("Source", f"<p>The claims: {in_html(REFERENCE)}. The rules: docs/study.md of basiscli.</p>"),
    ]
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{in_html(study.name)}: the four claims</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">\n'
        f"<style>{STYLE.read_text()}</style></head>\n<body><header><h1>Do single neurons mean anything?</h1>"
        f"<p>Study <b>{in_html(study.name)}</b>: {_summary(study)}</p></header>\n"
        f'<main>{_overview(by_claim)}<div class="cards">{cards}</div>\n{"".join(parts)}</main></body></html>\n'
    )


def _summary(study: Study) -> str:
    networks = sum(len(step.files) for step in study.steps if study.states[step.name]["status"] == steps.DONE)
    done = len(study.steps) - len(study.lacking)
    more = f", missing: {', '.join(study.lacking)}" if study.lacking else ""
    told_steps = f"{done} of {len(study.steps)} steps{in_html(more)}"
    return f"{networks} networks; {told_steps}; {time.strftime('%Y-%m-%d')}. In brackets: 95 % intervals."


def _overview(by_claim: Mapping[str, Sequence[Verdict]]) -> str:
    """Return the verdicts in a row, each a link to its card."""
    items = "".join(
        f'<li><a href="#{claim}"><b>{claim}</b> {in_html(claims.QUESTIONS[claim])}</a>{_chips(of)}</li>'
        for claim, of in by_claim.items()
    )
    return f'<nav aria-label="Verdicts"><ul class="overview">{items}</ul></nav>\n'


def _chips(verdicts: Sequence[Verdict]) -> str:
    chips = "".join(
        f'<span class="verdict {_class(one)}"><span aria-hidden="true">{SIGNS.get(one.verdict, "-")}</span> '
        f"{f'{one.part}: ' if one.part else ''}{one.verdict}</span>"
        for one in verdicts
    )
    return f'<span class="chips">{chips}</span>'


def _class(verdict: Verdict) -> str:
    return verdict.verdict.replace(" ", "-")


def _card(claim: str, verdicts: Sequence[Verdict], figure: tuple[str, str] | None) -> str:
    drawing = ""
    if figure:
        drawing = f'<figure role="img" aria-label="{in_html(figure[1])}">{_hidden(figure[0])}</figure>'
    parts = "".join(_part(one) for one in verdicts)
    return (
        f'<section class="card {_class(verdicts[0])}" aria-labelledby="{claim}"><div class="head">{_chips(verdicts)}'
        f'<h2 id="{claim}"><span>{claim}</span> {in_html(claims.QUESTIONS[claim])}</h2>'
        f"<p>The claim: {in_html(claims.STATEMENTS[claim])}</p>{_trained(verdicts)}</div>"
        f'{drawing}<div class="parts">{parts}</div></section>\n'
    )


def _part(one: Verdict) -> str:
    title = f"<h3>{one.part.capitalize()}</h3>" if one.part else ""
    effect = f"<p><b>{told(one.effect, one.unit)}</b> {in_html(one.measure)}</p>" if one.effect else ""
    lines = {"Why": one.because, "What would have refuted it": one.refuted_by}
    if one.adjusted_p is not None:
        lines["Among all verdicts (Holm)"] = f"{one.adjusted}, p = {one.adjusted_p:.2g}"
    lines |= {f"Control, {name}": text for name, text in one.controls.items()}
    lines |= {name[:1].upper() + name[1:]: text for name, text in one.beside.items()}
    items = "".join(f"<dt>{in_html(name)}</dt><dd>{in_html(text)}</dd>" for name, text in lines.items() if text)
    return f"<div>{title}{effect}<dl>{items}</dl></div>"


def _trained(verdicts: Sequence[Verdict]) -> str:
    """Return what the networks are, in a line."""
    trained = next((one.trained for one in verdicts if one.trained), {})
    words = [f"{trained[name]} {name}" for name in ("networks", "donors", "epochs") if trained.get(name) is not None]
    words += [f"width {_width(trained['width'])}"] if trained.get("width") is not None else []
    words += [str(trained["optimizer"])] if trained.get("optimizer") else []
    words += [f"test accuracy {number(trained['accuracy'], '%')}"] if trained.get("accuracy") is not None else []
    return f'<p class="trained">{in_html(", ".join(words))}</p>' if words else ""


def _width(width: object) -> str:
    """Return one width as people write it, or the text that names several."""
    return width if isinstance(width, str) and " " in width else name_of(width)


def _below(section: Section, records: Sequence[Mapping]) -> str:
    """Return a section below the claims: what it says, its figure, and its table of means over layers."""
    lines = "".join(f"<li>{in_html(line)}</li>" for line in section.lines)
    label = in_html(f"{section.title}: {'; '.join(section.lines)}")
    drawing = f'<figure role="img" aria-label="{label}">{_hidden(section.svg)}</figure>'
    rows = [
        {column: _cell(r, column) for column in COLUMNS[section.name]} for r in records if r["layer"] in (None, ALL)
    ]
    link = f'<p><a href="tables/{section.name}.csv">tables/{section.name}.csv</a> has every layer and field.</p>'
    return _section(section.title, f"<ul>{lines}</ul>{drawing}{link}{_grid(section.title, rows)}")


def _done(study: Study, verdicts: Sequence[Verdict]) -> str:
    """Return a paragraph on data, networks, recipe, accuracy and widths."""
    try:
        plan = tomllib.loads(study.plan)
    except tomllib.TOMLDecodeError:
        plan = {}
    train = plan.get("train", {})
    recipe = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in train.items())
    accuracies = [one.trained["accuracy"] for one in verdicts if one.trained.get("accuracy") is not None]
    text = f"Networks were trained with {recipe or 'the usual recipe'}. "
    if accuracies:
        text += f"Their test accuracy is {number(min(accuracies), '%')} to {number(max(accuracies), '%')}. "
    for command, claim in CLAIMS.items():
        if command in plan:
            text += f"{claim} looks at widths {', '.join(map(str, plan[command].get('widths', [])))}. "
    return (
        f"<p>{in_html(text)}Widths stand in the plan, which was written before the study ran: a verdict is about the"
        " widest networks of its claim, and a record that is missing makes it undecided. The rules of C1 and C2 are"
        " also given networks without a preferred basis, linear twins and untrained networks; a rule that finds one"
        " in them is uninformative.</p>"
    )


def _glossary() -> str:
    items = "".join(f"<dt>{in_html(word)}</dt><dd>{in_html(text)}</dd>" for word, text in GLOSSARY.items())
    return f'<dl class="glossary">{items}</dl>'


def _hidden(svg: str) -> str:
    """Return a drawing that a screen reader passes over, since its frame says what it shows."""
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def _rows(command: str, records: Sequence[Mapping]) -> list[dict]:
    """Return the rows of a command's table on the page: of correlations the means, if there are any."""
    if command == "correlate":
        records = [r for r in records if r.get("pairs", 1) > 1] or records
    return [{column: _cell(record, column) for column in COLUMNS[command]} for record in records]


def _cell(record: Mapping, column: str) -> str:
    value, low, high = (record.get(f"{column}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if low is None else f"{text} ({low:.3f} to {high:.3f})"


def _table(title: str, name: str, rows: Sequence[Mapping[str, str]]) -> str:
    link = f'<p><a href="tables/{name}.csv">tables/{name}.csv</a> has every field.</p>' if name in CLAIMS else ""
    return _section(title, link + _grid(title, rows)) if rows else ""


def _grid(label: str, rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f'<th scope="col">{in_html(column.replace("_", " "))}</th>' for column in rows[0])
    cells = ("".join(f"<td>{in_html(str(cell))}</td>" for cell in row.values()) for row in rows)
    body = "".join(f"<tr>{row}</tr>\n" for row in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{in_html(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{in_html(title)}</h2>{body}</section>\n"


def _failures(found: Sequence[Step], states: Mapping[str, Mapping]) -> str:
    rows = [
        {"step": step.name, "status": states[step.name]["status"], "tries": states[step.name].get("tries", ""),
         "error": states[step.name].get("error", ""), "log": step.log}
        for step in found if states[step.name]["status"] == steps.FAILED
    ]  # fmt: skip
    left = [step.name for step in found if states[step.name]["status"] not in (steps.DONE, steps.FAILED)]
    text = f"<p>Not done: {in_html(', '.join(left))}.</p>" if left else ""
    return (_grid("Failed steps", rows) if rows else "<p>None.</p>") + text


def _commands(found: Sequence[Step], states: Mapping[str, Mapping]) -> str:
    rows = [
        {"step": step.name, "status": states[step.name]["status"], "seconds": _seconds(states[step.name], "seconds"),
         "processor seconds": _seconds(states[step.name], "processor_seconds"),
         "command": step.command}
        for step in found
    ]  # fmt: skip
    total = sum(state.get("seconds", 0) for state in states.values())
    told = f"<p>In the study's folder; {total:.0f} seconds in all, added up over steps.</p>"
    return told + _grid("Commands and times", rows)


def _seconds(state: Mapping, field: str) -> str:
    return f"{state[field]:.1f}" if field in state else ""


def _versions(states: Mapping[str, Mapping]) -> str:
    """Tell the versions and machines of the steps that ran; one row unless they differ."""
    rows = [{**state["versions"], "host": state["host"]} for state in states.values() if "versions" in state]
    unique = list({json.dumps(row): row for row in rows}.values())
    return (
        _grid("Versions and machines", unique) + f"<p>{os.cpu_count()} cores where the report was made.</p>"
        if unique
        else "<p>No step ran.</p>"
    )
