"""The report of a study's folder (docs/study.md): report.html, results.json, tables/*.csv and figures/*.

All of it is made from study.json, plan.toml, records/ and steps/. Times and machines are in report.html alone, so that
results.json is the same however often a study was stopped.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from basiscli import atomic
from basiscli.errors import BadInput
from basiscli.files import kinds
from basiscli.names import in_csv
from basiscli.study import claims, page, sections, steps
from basiscli.study.plan import CLAIMS, SECTIONS
from basiscli.study.steps import Step
from basiscli.study.verdict import Verdict, mean

# What a table of the claims shows on a terminal.
COLUMNS = ("claim", "part", "verdict", "adjusted", "effect_told", "networks", "because")


def write(folder: Path) -> list[dict]:
    """Write the report of a study and return the records of the four claims. Raises BadInput if it is no study."""
    name, found = steps.load(folder)
    tables = read_tables(folder, found)
    lacking = steps.lacking(folder, found)
    gone = {
        command: [step.name for step in found if step.words[0] == command and step.name in lacking]
        for command in CLAIMS
    }
    verdicts = claims.verdicts(tables, gone)
    tables |= sections.read(folder, found)
    for part in ("tables", "figures"):
        (folder / part).mkdir(exist_ok=True)
    _require_own(folder)
    states = {step.name: steps.status(folder, step) for step in found}
    failed = [step.name for step in found if states[step.name]["status"] in (steps.FAILED, steps.BLOCKED)]
    claimed = [claims.record(verdict) for verdict in verdicts]
    results = {
        "study": name,
        "claims": claimed,
        "failed": failed,
        "lacking": lacking,
        "steps": {step.name: step.command for step in found},
        "tables": tables,
    }
    atomic.write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    for command, records in tables.items():
        atomic.write_text(folder / f"tables/{command}.csv", _csv(records))
    figures = _figures(folder, tables, verdicts)
    below = sections.write(folder, tables)
    study = page.Study(name, (folder / "plan.toml").read_text(), found, states, lacking, tables)
    atomic.write_text(folder / "report.html", page.render(study, verdicts, figures, below))
    return claimed


def _require_own(folder: Path) -> None:
    """Raise BadInput if a file that the report replaces is of another kind."""
    kinds.require_target(folder / "report.html", kinds.REPORT, force=True)
    kinds.require_target(folder / "results.json", kinds.STUDY_RESULTS, force=True)
    drawn = (f"{name}.{suffix}" for name in (*CLAIMS.values(), *SECTIONS) for suffix in ("png", "svg"))
    for name in ("claims.png", *drawn):
        kinds.require_target(folder / "figures" / name, kinds.FIGURE, force=True)


def read_tables(folder: Path, found: Sequence[Step]) -> dict[str, list[dict]]:
    """Return the records of each command that answers a claim, each with what its step is about (such as the width).

    Raises BadInput for a file that holds no records, or not those that its step wrote.
    """
    tables: dict[str, list[dict]] = {}
    for step in found:
        path = folder / step.records
        if step.words[0] in CLAIMS and path.exists():
            lines = _records(folder, step)
            about = dict(step.about)
            if step.words[0] == "correlate":
                about["accuracy"] = _accuracy(folder, found, step)
            tables.setdefault(step.words[0], []).extend({**about, **line} for line in lines)
    return tables


def _accuracy(folder: Path, found: Sequence[Step], step: Step) -> float | None:
    """Return the mean test accuracy of the networks that a step reads, as their training told it."""
    before = [other for other in found if other.name in step.after and (folder / other.records).exists()]
    return mean(line.get("test_accuracy") for other in before for line in _records(folder, other))


def _records(folder: Path, step: Step) -> list[dict]:
    """Return what a step printed. Raises BadInput if the file is damaged."""
    path, state = folder / step.records, steps.outcome(folder, step)
    written = state.get("files", {}).get(step.records)
    try:
        lines = [dict(json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: is damaged; remove it, and `basiscli study` makes it anew") from error
    if state["status"] == steps.DONE and written and steps.describe(path)["sha256"] != written["sha256"]:
        raise BadInput(f"{path}: is not what its step wrote; remove it, and `basiscli study` makes it anew")
    return lines


def _csv(records: Sequence[Mapping]) -> str:
    page = io.StringIO()
    writer = csv.DictWriter(page, list(dict.fromkeys(key for record in records for key in record)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: in_csv(value) for name, value in record.items()} for record in records)
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
