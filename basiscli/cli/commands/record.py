"""`basiscli record`: write activations of networks into HDF5 files."""

from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output
from basiscli.cli.types import Choice


@click.command(cls=Command)
@click.argument("networks", nargs=-1, required=True, metavar="NET.h5...")
@options.layers
@click.option(
    "--tap",
    type=Choice("basiscli.files.schema:TAPS"),
    default="post",
    show_default=True,
    help="After (post) or before (pre) the nonlinearity.",
)
@options.inputs(
    "--split",
    "Images to run on; -shifts takes each image in all nine shifts by at most one pixel.",
    default="test",
    show_default=True,
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.  [default: all]")
@click.option("--dataset", help="Path of the network's data set, if it has moved.")
@of_output("--out", metavar="FILE", help="The file, for one network.  [default: activations/NET.SPLIT-TAP.h5]")
@options.forced("Overwrite the file.")
@options.computing
@records.format_option
def command(networks, tap, split, out, style, **chosen) -> None:
    """Store activations of any layers of any networks.

    NET.h5... are network files; - reads them from stdin, as records or as plain paths. Writes one file for each
    network, with arrays activations/SPLIT/LAYER (samples, ..., units), which `basiscli correlate` and any HDF5 reader
    take. Samples are streamed, so memory does not grow with their number.

    \b
    basiscli record runs/digits-mlp/seed0.h5 --layer hidden2 --tap pre
    basiscli train --seeds 2 | basiscli record - | basiscli correlate -
    """
    from basiscli.cli.inputs import paths_from
    from basiscli.files.activations import record_files

    paths = paths_from(networks)
    if out and len(paths) > 1:
        raise click.UsageError("--out names one file: record one network at a time, or leave it out")
    targets = [Path(out) if out else _beside(Path(path), split, tap) for path in paths]
    results = record_files(
        dict(zip(paths, targets, strict=True)), split=split, tap=tap, command=records.command_line(),
        make_folders=out is None, **chosen,
    )  # fmt: skip
    records.emit(results, style)


def _beside(network: Path, split: str, tap: str) -> Path:
    """Return the file for a network's activations, in a separate folder: NETWORKS/*.h5 should match networks alone."""
    return network.parent / "activations" / f"{network.stem}.{split}-{tap}.h5"
