"""`basiscli privilege`: how privileged the basis of each network is, layer by layer, beside the untrained network."""

from collections.abc import Mapping

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command

# The columns of a table, the most important first. JSON and CSV have all fields.
COLUMNS = ("network", "layer", "privilege", "untrained", "kurtosis", "rotated", "sparseness")
WHITENED = ("whitened",)
SECONDARY = ("second moment", "units", "dead")


@click.command(cls=Command, short_help="How privileged is the basis of each network? Kurtosis beside rotated axes.")
@click.argument("files", nargs=-1, required=True, metavar="NET.h5 | ARRAYS.h5 [MORE...]")
@options.layers
@options.tapped("pre")
@options.inputs("--split", "Inputs of a network.  [default: test, or what a recorded file holds]")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use the first N samples only.")
@options.channels
@options.ids
@options.positions
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True, help="Rotations of each layer.")
@click.option("--whiten", is_flag=True, help="Also whiten the units first (ZCA); this reads the data twice.")
@click.option(
    "--baseline",
    multiple=True,
    metavar="UNTRAINED",
    help="File to set beside: one for all files, or one for each, given again.  [default: the network of the same"
    " seed, drawn again; for arrays none]",
)
@options.seeded("Of the rotations.")
@options.moved_dataset
@options.plotted("Draw every layer's units beside rotated axes.")
@options.forced("Overwrite --plot.")
@options.computing
@records.format_option
def command(files, draws, seed, whiten, positions, style, **chosen) -> None:
    """Do the axes of one network matter more than other axes of its space?

    For every file and layer: the excess kurtosis of the units minus that of rotated axes of the standardised units
    (privilege: 0 for axes like any others, above 0 for sparser units), beside the same of the untrained network. The
    same of sparseness, of raw and of whitened units, and by second moments. Of three files or more also the mean, with
    95 % intervals over networks. docs/privilege.md says how to read it.

    A file is a network, or any HDF5 file of arrays (samples, ..., units); `-` reads paths or records from stdin.

    \b
    basiscli privilege runs/digits-mlp --plot privilege.png
    basiscli privilege llama.h5 --whiten --baseline untrained.h5
    """
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments.privilege import PrivilegeRequest, privilege_files, sentences

    results = privilege_files(paths_from(files), PrivilegeRequest(draws, seed, whiten, positions), **chosen)
    columns = (*COLUMNS, *(WHITENED if whiten else ()), *SECONDARY)
    records.emit(results, style, columns, _row, 4, sentences)


def _row(record: Mapping) -> dict:
    """Return the row of a table; scores have their intervals."""
    shown = {
        "privilege": "privilege",
        "untrained": "untrained_privilege",
        "sparseness": "sparseness_privilege",
        "whitened": "privilege_whitened",
        "second moment": "second_moment_privilege",
    }
    row = dict(record) | {"network": record["path"], "rotated": record["rotated_kurtosis"]}
    for column, name in shown.items():
        if name in record:
            with_interval = f"{name}_low" in record
            row[column] = records.interval(record, name, digits=2) if with_interval else record[name]
    return row
