"""`basiscli record`: activations of networks into HDF5."""

from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device


@click.command()
@click.argument("networks", nargs=-1, required=True, metavar="NET.h5...")
@click.option("--layer", default="*", show_default=True, metavar="GLOB", help="Which layers.")
@click.option(
    "--tap",
    type=click.Choice(["post", "pre"]),
    default="post",
    show_default=True,
    help="After (post) or before (pre) the nonlinearity.",
)
@click.option(
    "--split",
    type=click.Choice(["test", "train", "test-shifts", "train-shifts"]),
    default="test",
    show_default=True,
    help="Images to show; -shifts shows each in all nine shifts by at most one pixel.",
)
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.  [default: all]")
@click.option("--dataset", help="Where the network's data set is now, if it has moved.")
@click.option("--out", metavar="FILE", help="The file, for one network.  [default: NET.SPLIT-TAP.h5]")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@device.options
@records.format_option
def command(networks, layer, tap, split, samples, dataset, out, force, style) -> None:
    """Store activations of any layers of any networks.

    NET.h5... are network files; - reads them from stdin, as records or as plain paths. Writes one file a network, as
    activations/SPLIT/LAYER arrays (samples, ..., units), which `basiscli correlate` and any HDF5 reader take. It is
    streamed: memory does not grow with the number of samples.

    \b
    basiscli record runs/digits-mlp/seed0.h5 --layer hidden2 --tap pre
    basiscli train --seeds 2 | basiscli record - --split test-shifts | basiscli correlate -
    """
    from basiscli.cli.inputs import paths_from

    paths = paths_from(networks)
    if out and len(paths) > 1:
        raise click.UsageError("--out names one file: record one network at a time, or leave it out")
    targets = [Path(out) if out else Path(path).with_suffix(f".{split}-{tap}.h5") for path in paths]
    options = (layer, tap, split, samples, dataset, force)
    records.emit((_record(*pair, *options) for pair in zip(paths, targets, strict=True)), style)


def _record(path, target, layer, tap, split, samples, dataset, force) -> dict:
    from basiscli.files import activations, hdf5

    source = activations.narrow(activations.computed(path, split, tap, dataset), layer, samples)
    with hdf5.writing(target, force) as writer:
        writer.attributes(
            {
                "kind": hdf5.ACTIVATIONS,
                "network": path,
                "dataset": {"checksum": source.inputs.partition("/")[0]},
                "command": records.command_line(),
            }
        )
        activations.record(writer, source, split, tap)
    return {
        "path": str(target),
        "network": path,
        "split": split,
        "tap": tap,
        "samples": source.samples,
        "layers": ",".join(source.layers),
    }
