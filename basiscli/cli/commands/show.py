"""`basiscli show`: the contents of a file."""

import sys

import click

from basiscli.cli import records, streams
from basiscli.cli.help import Command


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@records.format_option
def command(files, style) -> None:
    """Show the contents of a file: a network and its training, activations, results, or another program's arrays.

    A file gives one screen on a terminal, and one JSON record in a pipe. - reads paths from stdin.

    \b
    basiscli show runs/digits-mlp/seed0.h5
    basiscli show runs/digits-mlp --format json
    """
    from basiscli.cli.inputs import paths_from
    from basiscli.files.summary import screen, summarise

    summaries = (summarise(path) for path in paths_from(files))
    if style == "table" or (style is None and sys.stdout.isatty()):
        for summary in summaries:
            streams.write(screen(summary) + "\n")
    else:
        records.emit(summaries, style)
