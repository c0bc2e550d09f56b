"""Figures of records, drawn after the last record."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

from basiscli.files import kinds


def drawn_at_end(records: Iterable[Mapping], figure: str, plot: Path | None, force: bool = False) -> Iterator[Mapping]:
    """Yield records and, after the last, draw all of them into the file `plot`; None draws nothing.

    figure: the name of a function of `plots.experiments`, or MODULE.FUNCTION of another module of plots. Raises
    BadInput before the first record if `plot` exists, unless `force`.
    """
    if plot is None:
        yield from records
        return
    kinds.require_target(plot, kinds.FIGURE, force)
    known = []
    for record in records:
        known.append(record)
        yield record
    from basiscli.plots.style import save

    module, _, function = figure.rpartition(".")
    save(getattr(import_module(f"basiscli.plots.{module or 'experiments'}"), function)(known), plot)
