"""The report of a study's folder (docs/study.md): report.html, results.json, tables/*.csv and figures/*.

All of it is made from study.json, plan.toml, records/ and steps/. Times and machines are in report.html alone, so that
results.json is the same however often a study was stopped.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.study import claims, steps
from basiscli.study.claims import Verdict
from basiscli.study.plan import CLAIMS
from basiscli.study.steps import Step

# What a table of the claims shows on a terminal.
COLUMNS = ("claim", "verdict", "effect", "effect_low", "effect_high", "networks", "because")
STYLE = Path(__file__).with_name("report.css")
SIGNS = {claims.SHOWN: "✓", claims.REFUTED: "✕", claims.UNDECIDED: "?"}
# What the page shows of a command's records; the CSV files have all.
SHOWN = {
    "rotate": ("width", "activation", "layer", "kind", "over", "power", "networks", "failed", "test_accuracy",
               "penalty_accuracy", "penalty_test_loss", "penalty_train_loss"),
    "correlate": ("width", "layer", "units_a", "dead_a", "pairs", "identity", "matched", "matched_held_out",
                  "rotated_held_out_mean", "rotated_held_out_excess", "aligned_held_out"),
    "freeze": ("width", "donor", "prefix", "layer", "dead", "networks", "test_accuracy", "matched_held_out", "rise",
               "excess_rise"),
    "connectivity": ("width", "match", "correct", "split", "pairs", "test_accuracy", "barrier", "midpoint",
                     "accuracy_barrier", "correlation", "matched_held_out", "rotated_held_out_excess"),
}  # fmt: skip
TITLES = {
    "rotate": "Rotations", "correlate": "Correlations, means over pairs", "freeze": "Frozen layers",
    "connectivity": "Barriers",
}  # fmt: skip


def write(folder: Path) -> list[dict]:
    """Write the report of a study and return the records of the four claims. Raises BadInput if it is no study."""
    name, found = steps.load(folder)
    tables = read_tables(folder, found)
    verdicts = claims.verdicts(tables)
    for part in ("tables", "figures"):
        (folder / part).mkdir(exist_ok=True)
    states = {step.name: steps.status(folder, step) for step in found}
    failed = [step.name for step in found if states[step.name]["status"] in (steps.FAILED, steps.BLOCKED)]
    results = {
        "study": name,
        "claims": [verdict.record() for verdict in verdicts],
        "failed": failed,
        "steps": {step.name: step.command for step in found},
        "tables": tables,
    }
    atomic.write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    for command, records in tables.items():
        atomic.write_text(folder / f"tables/{command}.csv", _csv(records))
    figures = _figures(folder, tables, verdicts)
    atomic.write_text(folder / "report.html", _page(name, folder, found, states, verdicts, tables, figures))
    return results["claims"]


def read_tables(folder: Path, found: Sequence[Step]) -> dict[str, list[dict]]:
    """Return the records of each command that answers a claim, each with what its step is about (such as the width).

    Raises BadInput for a file that holds no records.
    """
    tables: dict[str, list[dict]] = {}
    for step in found:
        path = folder / step.records
        if step.words[0] in CLAIMS and path.exists():
            try:
                lines = [dict(json.loads(line)) for line in path.read_text().splitlines()]
            except (ValueError, TypeError) as error:
                raise BadInput(f"{path}: is damaged; remove it, and `basiscli study` makes it anew") from error
            tables.setdefault(step.words[0], []).extend({**step.about, **line} for line in lines)
    return tables


def _csv(records: Sequence[Mapping]) -> str:
    page = io.StringIO()
    writer = csv.DictWriter(page, list(dict.fromkeys(key for record in records for key in record)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return page.getvalue()


def _figures(folder: Path, tables: Mapping, verdicts: Sequence[Verdict]) -> dict[str, tuple[str, str]]:
    """Write the claims' figures, one by one and as one; return each as SVG for the page, with its alternative text."""
    from basiscli.plots.style import save
    from basiscli.study import claim_figures

    save(claim_figures.together(tables, verdicts), folder / "figures/claims.png")
    inline = {}
    for claim, (figure, told) in claim_figures.draw(tables).items():
        save(figure, folder / f"figures/{claim}.png")
        atomic.write_text(folder / f"figures/{claim}.svg", claim_figures.svg(figure, claim, variables=False))
        inline[claim] = (claim_figures.svg(figure, claim, variables=True), told)
    return inline


def _page(name, folder, found, states, verdicts, tables, figures) -> str:
    cards = "".join(_card(verdict, figures.get(verdict.claim)) for verdict in verdicts)
    parts = [
        *(_table(TITLES[command], command, _rows(command, tables[command])) for command in CLAIMS if command in tables),
        _section("Failed steps", _failures(found, states)),
        _section("Plan", f"<pre>{escape((folder / 'plan.toml').read_text())}</pre>"),
        _section("Commands and times", _commands(found, states)),
        _section("Versions and machines", _versions(states)),
    ]
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: the four claims</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">\n'
        f"<style>{STYLE.read_text()}</style></head>\n<body><header><h1>Do single neurons mean anything?</h1>"
        f"<p>Study <b>{escape(name)}</b>: {_summary(found, states)}</p></header>\n"
        f'<main><div class="cards">{cards}</div>\n{"".join(parts)}</main></body></html>\n'
    )


def _summary(found: Sequence[Step], states: Mapping[str, Mapping]) -> str:
    networks = sum(len(step.files) for step in found if states[step.name]["status"] == steps.DONE)
    done = sum(state["status"] == steps.DONE for state in states.values())
    return f"{networks} networks trained, {done} of {len(found)} steps done. In brackets: 95 % intervals over networks."


def _card(verdict: Verdict, figure: tuple[str, str] | None) -> str:
    drawing = ""
    if figure:
        drawing = f'<figure role="img" aria-label="{escape(figure[1])}">{_hidden(figure[0])}</figure>'
    effect = f"<p><b>{verdict.effect}</b> {escape(verdict.measure)}</p>" if verdict.effect else ""
    beside = "".join(f"<li>{escape(name)}: {one}</li>" for name, one in (verdict.beside or {}).items())
    networks = f"<li>{verdict.networks} networks</li>" if verdict.networks else ""
    return (
        f'<section class="card {verdict.verdict}" aria-labelledby="{verdict.claim}"><div class="head">'
        f'<p class="verdict"><span aria-hidden="true">{SIGNS[verdict.verdict]}</span> {verdict.verdict}</p>'
        f'<h2 id="{verdict.claim}"><span>{verdict.claim}</span> {escape(claims.STATEMENTS[verdict.claim])}</h2></div>'
        f"<div>{effect}<ul>{beside}{networks}</ul><p>Why: {escape(verdict.because)}.</p></div>{drawing}</section>\n"
    )


def _hidden(svg: str) -> str:
    """Return a drawing that a screen reader passes over, since its frame says what it shows."""
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def _rows(command: str, records: Sequence[Mapping]) -> list[dict]:
    """Return the rows of a command's table on the page: of correlations the means, if there are any."""
    if command == "correlate":
        records = [r for r in records if r.get("pairs", 1) > 1] or records
    return [{column: _cell(record, column) for column in SHOWN[command]} for record in records]


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
    head = "".join(f'<th scope="col">{escape(column.replace("_", " "))}</th>' for column in rows[0])
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row.values()) for row in rows)
    body = "".join(f"<tr>{row}</tr>\n" for row in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>\n"


def _failures(found: Sequence[Step], states: Mapping[str, Mapping]) -> str:
    rows = [
        {"step": step.name, "status": states[step.name]["status"], "tries": states[step.name].get("tries", ""),
         "error": states[step.name].get("error", ""), "log": step.log}
        for step in found if states[step.name]["status"] == steps.FAILED
    ]  # fmt: skip
    left = [step.name for step in found if states[step.name]["status"] not in (steps.DONE, steps.FAILED)]
    text = f"<p>Not done: {escape(', '.join(left))}.</p>" if left else ""
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
