"""`basiscli correlate`: basis correlation of all pairs of networks, layer by layer, with nulls and ceilings."""

from collections.abc import Mapping
from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output
from basiscli.cli.types import Finite, Names, Rename

# The columns of a table, the most important first. JSON and CSV have all fields.
PLAIN = ("pair", "layer", "held_out", "matched", "identity", "units", "dead")
CALIBRATED = ("pair", "layer", "held_out", "null", "excess", "ceiling", "share")
SECONDARY = ("units", "dead", "z")

UNITS = ("path", "layer", "unit", "universality", "null", "universal", "q", "partner", "correlation", "stability")
CYCLES = ("layer", "networks", "cycles", "null", "cycles_low", "cycles_high", "triples")


@click.command(cls=Command, short_help="Correlate the units of networks, pair by pair and layer by layer.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@options.layers
@options.tap
@options.inputs("--split", "Inputs of a network.  [default: test, or what a recorded file holds]")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use the first N samples only.")
@options.channels
@options.ids
@options.positions
@options.dead
@click.option(
    "--null",
    "nulls",
    cls=options.NamesOption,
    type=Names("basiscli.analysis.assess:NULLS"),
    default=(),
    metavar="NAMES",
    help="What the scores would be without a common basis: {names}, all; rotated takes a single file too.",
)
@click.option("--draws", type=click.IntRange(min=2), default=100, show_default=True, help="Draws of each null.")
@click.option(
    "--similarity",
    "similarities",
    cls=options.NamesOption,
    type=Names("basiscli.analysis.similarity:SIMILARITIES"),
    default=(),
    metavar="NAMES",
    help="Other similarities: {names}, all.",
)
@click.option("--extrapolate", is_flag=True, help="Also match on fewer images, and extrapolate to infinitely many.")
@click.option("--units", is_flag=True, help="A record a unit: its partners in the other files; is it universal?")
@click.option("--cycles", is_flag=True, help="A record a layer: do the partners of three networks agree?")
@click.option(
    "--fdr",
    type=Finite(min=0, min_open=True, max=1),
    default=0.05,
    show_default=True,
    help="With --units: the rate of false discoveries among universal units.",
)
@click.option("--intervals", is_flag=True, help="Add the mean over pairs, with intervals over networks.")
@click.option("--across", is_flag=True, help="Every layer of A with every layer of B, also of other architectures.")
@click.option(
    "--rename", "renames", type=Rename(), multiple=True, metavar="OLD=NEW", help="Names of layers: 'module.*=*'."
)
@options.memory
@options.seeded("For halves and nulls.")
@options.moved_dataset
@of_output("--out", type=click.Path(path_type=Path), metavar="FILE.h5", help="Keep matrices and permutations.")
@options.plotted(
    "Draw the first pair; of several layers with --null or --intervals, the mean over pairs layer by layer; with"
    " --units, the images that excite the most and least universal units."
)
@options.forced("Overwrite --out and --plot.")
@options.computing
@records.format_option
def command(
    files, nulls, draws, similarities, dead, seed, extrapolate, units, cycles, fdr, intervals, across, style, **chosen
) -> None:
    """Do the units of two networks pair up?

    For every pair of files and every layer that both have: the mean correlation of units matched one to one (in sample,
    and held out: matched on one half of the samples, scored on the other), of each unit with its best partner, and of
    units with the same number. docs/metrics.md has the definitions.

    A file is a network, or any HDF5 file of arrays (samples, ..., units); `-` reads paths or records from stdin.

    \b
    basiscli correlate runs/digits-mlp --null rotated --intervals
    basiscli train --seeds 5 | basiscli correlate - --null rotated
    basiscli correlate runs/digits-mlp --units --tap pre --plot units.png
    basiscli correlate mine.h5 yours.h5 --across --plot across.png
    """
    from basiscli.analysis.assess import CorrelationRequest
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments.correlation import correlate_files, sentences

    paths = paths_from(files)
    if units or cycles:
        others = nulls or similarities or extrapolate or intervals or chosen["out"] or dead != "zero"
        others = others or across or chosen.pop("memory") or chosen.pop("renames")
        if (units and cycles) or others or (cycles and chosen["plot"]):
            raise click.UsageError(
                f"--{'units' if units else 'cycles'} gives records of its own: leave out --null, --similarity, "
                "--extrapolate, --intervals, --dead, --across, --rename, --memory, --out, and "
                + ("--cycles" if units else "--plot")
            )
        _emit_units(paths, units, draws, seed, fdr, style, chosen)
        return
    if len(paths) < 2 and "rotated" not in nulls:
        raise click.UsageError("correlate needs two files or more (one will do with --null rotated)")
    if len(paths) < 3 and intervals:
        raise click.UsageError("--intervals are over networks and need three files or more")
    request = CorrelationRequest(nulls, draws, similarities, dead == "drop", seed, extrapolate)
    if across:
        _emit_across(paths, request, intervals, style, chosen)
        return
    results = correlate_files(paths, request, intervals=intervals, **chosen)
    columns = (*CALIBRATED, *SECONDARY) if "rotated" in nulls else PLAIN
    columns += tuple(name.replace("-", "_") for name in similarities)
    needed = len(CALIBRATED) - 1 if "rotated" in nulls else len(PLAIN) - 2
    records.emit(results, style, columns, _row, needed, sentences)


def _emit_units(paths, units: bool, draws: int, seed: int, fdr: float, style: str | None, chosen: dict) -> None:
    """Print the records of --units or --cycles."""
    from basiscli.experiments import universality

    if len(paths) < (2 if units else 3):
        raise click.UsageError("--units needs two files or more" if units else "--cycles needs three files or more")
    request = universality.UnitsRequest(draws, seed, chosen.pop("positions"), fdr)
    chosen.pop("out")
    if units:
        found = universality.units_of_files(paths, request, **chosen)
        records.emit(found, style, UNITS, words=universality.unit_sentences, needed=5)
    else:
        for name in ("plot", "force"):
            chosen.pop(name)
        found = universality.cycles_of_files(paths, request, **chosen)
        records.emit(found, style, CYCLES, words=universality.cycle_sentences, needed=4)


def _emit_across(paths: list[str], request, intervals: bool, style: str | None, chosen: dict) -> None:
    from basiscli.experiments.across import across_files, sentences

    if len(paths) != 2:
        raise click.UsageError(f"--across compares the layers of two files; these are {len(paths)}")
    if intervals or chosen.pop("out"):
        raise click.UsageError("--across compares two networks, without --intervals and --out")
    results = across_files(paths, request, **chosen)
    columns = ("layer_a", "layer_b", "held_out", "null", "excess", "ceiling", "cka", *SECONDARY)
    records.emit(results, style, columns, _row, len(CALIBRATED) - 1, sentences)


def _row(record: Mapping) -> dict:
    """Return the row of a table: the held-out score, and the null and ceiling of standardised units."""
    null = "standardised_rotated_held_out"
    row = dict(record) | {
        "pair": f"mean of {record['b']}"
        if record.get("pairs", 1) > 1
        else tuple(record[side].removesuffix(".h5") for side in "ab"),
        "held_out": record["matched_held_out"],
        "null": record.get(f"{null}_mean"),
        "excess": record.get(f"{null}_excess"),
        "z": record.get(f"{null}_z"),
        "ceiling": record.get("standardised_aligned_held_out"),
        "units": _both(record["units_a"], record["units_b"]),
        "dead": _both(record["dead_a"], record["dead_b"]),
    }
    if f"{null}_excess_low" in record:
        row["excess"] = records.interval(record, f"{null}_excess", digits=2)
    return row


def _both(a: float | None, b: float | None) -> str | None:
    values = ["-" if value is None else f"{value:.3g}" for value in (a, b)]
    return values[0] if values[0] == values[1] else "/".join(values)
