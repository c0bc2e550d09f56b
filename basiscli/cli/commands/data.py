"""basiscli data: list, fetch and import data sets."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from basiscli.cli.help import Group, of_output
from basiscli.cli.records import emit, format_option

COLUMNS = ("name", "train", "test", "shape", "classes", "where", "source")


@click.group("data", cls=Group)
def command() -> None:
    """List, fetch and import the data sets that networks are trained on.

    The default, digits, is part of basiscli. The others are downloaded once, into the folder that the environment
    variable BASISCLI_DATA names, or else the platform's cache folder. Your own images need no command: store four
    arrays with numpy.savez and give the file as --dataset (docs/data.md shows how).

    \b
    basiscli data list
    basiscli data fetch mnist
    """


@command.command("list")
@format_option
def list_sets(style: str | None) -> None:
    """Show the data sets that have a name.

    A record has the numbers of training and test images, the shape of an image (height x width x channels), the number
    of classes, the folder where its files are (empty while any is missing), source, licence and citation.

    \b
    basiscli data list
    basiscli data list --format csv
    """
    from basiscli import data

    emit(map(data.describe, data.names()), style, COLUMNS)


@command.command("fetch", go_on="the same command goes on with what is missing")
@click.argument("name")
@format_option
def fetch(name: str, style: str | None) -> None:
    """Download the data set NAME, such as mnist, from its official address.

    Files that are there already are kept, so after an interruption the same command goes on. Each file is checked
    against its pinned checksum before it is put in place. `basiscli data list` shows the names.

    \b
    basiscli data fetch mnist
    basiscli data fetch cifar10 --format json
    """
    from basiscli import data

    with _drawn() as progress:
        placed = data.fetch(name, progress)
    emit((file.record(name) for file in placed), style)


@command.command("import")
@click.argument("name")
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@of_output("--force", is_flag=True, help="Replace files that are there already and differ.")
@format_option
def import_files(name: str, source: Path, force: bool, style: str | None) -> None:
    """Copy the files of the data set NAME from FOLDER, for a machine without access to the internet.

    FOLDER holds the files under their original names, as downloaded or unpacked. All are read and checked before
    anything is copied. The field `official` says whether a file has the checksum of the released one; it is imported
    in any case.

    \b
    basiscli data import mnist ~/Downloads
    basiscli data import cifar10 ~/Downloads --force
    """
    from basiscli import data

    emit((file.record(name) for file in data.import_folder(name, source, force)), style)


@contextmanager
def _drawn() -> Iterator[Callable[[str, int, int], None]]:
    """Yield the progress callback of a fetch. It shows a bar for each file on a terminal, otherwise a line."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def draw(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=done, total=total or None)

        yield draw


def _lines() -> Callable[[str, int, int], None]:
    begun = set()

    def write(file: str, done: int, total: int) -> None:
        if file not in begun:
            begun.add(file)
            click.echo(f"fetching {file}" + (f" ({total / 1e6:.1f} MB)" if total else ""), err=True)

    return write
