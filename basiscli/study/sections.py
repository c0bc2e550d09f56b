"""What a report shows below the claims: networks over training, and what their basis depends on (docs/evolve.md)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from basiscli.errors import BadInput
from basiscli.experiments import evolution
from basiscli.study import comparison
from basiscli.study.steps import Step
from basiscli.study.verdict import Record

TITLES = {"evolve": "Over training", "compare": "What the basis depends on"}
WORDS: Mapping[str, Callable[[Sequence[Record]], Iterable[str]]] = {
    "evolve": evolution.sentences, "compare": comparison.sentences,
}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A section of a report: the name of its table, its title, what it says, and its figure as SVG."""

    name: str
    title: str
    lines: tuple[str, ...]
    svg: str


def read(folder: Path, steps: Sequence[Step]) -> dict[str, list[dict]]:
    """Return the records of each section that there are any of, by its name. Raises BadInput for a damaged file."""
    evolved = [step for step in steps if step.words[0] == "evolve" and "cell" not in step.about]
    tables: dict[str, list[dict]] = {"evolve": [], "compare": list(comparison.compare(folder, steps))}
    for path in (folder / step.records for step in evolved):
        if path.exists():
            try:
                tables["evolve"] += [dict(json.loads(line)) for line in path.read_text().splitlines()]
            except (ValueError, TypeError) as error:
                raise BadInput(f"{path}: is damaged; remove it, and `basiscli study` makes it anew") from error
    return {name: records for name, records in tables.items() if records}


def write(folder: Path, tables: Mapping[str, Sequence[Record]]) -> list[Section]:
    """Write the figure of each section, as PNG and SVG, and return the sections for the page."""
    from basiscli import atomic
    from basiscli.plots.comparison import comparison_figure
    from basiscli.plots.evolution import evolution_figure
    from basiscli.plots.style import save
    from basiscli.study.claim_figures import svg

    found = []
    for name, draw in (("evolve", evolution_figure), ("compare", comparison_figure)):
        if records := tables.get(name):
            figure = draw(records)
            save(figure, folder / f"figures/{name}.png")
            atomic.write_text(folder / f"figures/{name}.svg", svg(figure, name, variables=False))
            inline = svg(figure, name, variables=True)
            found.append(Section(name, TITLES[name], tuple(WORDS[name](records)), inline))
    return found
