"""`basiscli report`: make the report of a study again from the files in its folder."""

from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.help import Command


@click.command(cls=Command, short_help="Write the report of a study's folder.")
@click.argument("folder", type=click.Path(path_type=Path))
@records.format_option
def command(folder: Path, style: str | None) -> None:
    """Make the report of a study from what its folder holds, finished or not.

    Writes FOLDER/report.html (one file, no network), results.json, tables/*.csv and figures/*.png and *.svg, and
    prints the four claims with their verdicts. docs/study.md has the rules.

    \b
    basiscli report runs/study-digits
    basiscli report runs/study-digits --format json
    """
    from basiscli.study import report

    records.emit(report.write(folder), style, report.COLUMNS)
