"""`basiscli check`: are files whole?"""

import click

from basiscli.cli import records
from basiscli.cli.help import Command

COLUMNS = ("path", "whole", "kind", "problem")


@click.command(cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@records.format_option
def command(files, style) -> None:
    """Say whether files of basiscli are whole: networks, activations, permutations, results.

    All bytes are compared with the digests in the file, and attributes and arrays with what such a file holds
    (docs/format.md). A record for each file: path, kind, format, whole, and the first problem. Files of format 1 have
    no digests, only checksums of arrays. The exit code is 1 if a file is not whole. A folder stands for its .h5 files,
    - for paths on stdin.

    \b
    basiscli check runs/digits-mlp
    basiscli check runs/digits-mlp/seed0.h5 pair.h5 --format json
    """
    from basiscli.cli.inputs import paths_from
    from basiscli.errors import BadInput
    from basiscli.files.check import check_files

    results: list[dict] = []
    records.emit(records.kept(check_files(paths_from(files, every=True)), results), style, COLUMNS)
    if broken := [record["path"] for record in results if not record["whole"]]:
        more = f" and {len(broken) - 1} more" if broken[1:] else ""
        raise BadInput(f"{len(broken)} of {len(results)} files are not whole: {broken[0]}{more}")
