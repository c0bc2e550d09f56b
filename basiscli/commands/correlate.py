"""`basiscli correlate`: basis correlation of all pairs of networks, layer by layer, beside its nulls and ceilings."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from basiscli import records

NULLS = ("rotated", "shuffled")
SIMILARITIES = ("cka", "cca", "svcca", "pwcca", "procrustes", "soft-matching")
# What a table shows of the many fields; JSON and CSV have all.
COLUMNS = ("a", "b", "layer", "units_a", "units_b", "dead_a", "dead_b", "identity", "matched", "matched_held_out")
ROTATED_COLUMNS = ("rotated_held_out_mean", "rotated_held_out_excess", "rotated_held_out_z", "aligned_held_out")
INTERVAL_COLUMNS = ("matched_held_out_low", "matched_held_out_high")


class Names(click.ParamType):
    """Names from a fixed set, separated by commas; `all` is every one."""

    name = "names"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def convert(self, value, parameter, context) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = self.choices if value == "all" else tuple(dict.fromkeys(value.split(",")))
        for name in names:
            if name not in self.choices:
                self.fail(f"'{name}' is none of {', '.join(self.choices)}, all", parameter, context)
        return names


class Positions(click.ParamType):
    """`all`, `mean`, or a number."""

    name = "positions"

    def convert(self, value, parameter, context) -> str | int:
        if value in ("all", "mean"):
            return value
        if str(value).isdecimal() and int(value) > 0:
            return int(value)
        self.fail(f"'{value}' is neither all, mean nor a number from 1", parameter, context)


@click.command(short_help="Correlate the units of networks, pair by pair and layer by layer.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@click.option("--layer", default="*", show_default=True, metavar="GLOB", help="Which layers.")
@click.option(
    "--tap",
    type=click.Choice(("pre", "post")),
    default="post",
    show_default=True,
    help="Activations before or after the nonlinearity.",
)
@click.option("--split", default="test", show_default=True, help="Which split of a network's data set.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use the first N samples only.")
@click.option(
    "--positions",
    type=Positions(),
    default="all",
    show_default=True,
    metavar="all|mean|N",
    help="Of a convolution: every position a row, their mean, or N of them, drawn once.",
)
@click.option(
    "--dead",
    type=click.Choice(("zero", "drop")),
    default="zero",
    show_default=True,
    help="A unit without variance correlates zero, or is left out.",
)
@click.option(
    "--null",
    "nulls",
    type=Names(NULLS),
    default=(),
    metavar="NAMES",
    help=f"What the scores would be without a common basis: {', '.join(NULLS)}, all. With rotated a single file will do.",
)
@click.option("--draws", type=click.IntRange(min=2), default=100, show_default=True, help="Draws of each null.")
@click.option(
    "--similarity", "similarities", type=Names(SIMILARITIES), default=(), metavar="NAMES",
    help=f"Other similarities: {', '.join(SIMILARITIES)}, all.",
)  # fmt: skip
@click.option("--intervals", is_flag=True, help="Add the mean over pairs, with intervals over networks (three or more).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the halves and the nulls.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.h5", help="Keep matrices and permutations.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the first pair; or, of several layers with --null or --intervals, the mean over pairs layer by layer.",
)
@click.option("--force", is_flag=True, help="Overwrite --out and --plot.")
@records.format_option
def command(
    files: tuple[str, ...],
    layer: str,
    tap: str,
    split: str,
    samples: int | None,
    positions: str | int,
    dead: str,
    nulls: tuple[str, ...],
    draws: int,
    similarities: tuple[str, ...],
    intervals: bool,
    seed: int,
    out: Path | None,
    plot: Path | None,
    force: bool,
    style: str | None,
) -> None:
    """Do the units of two networks pair up?

    For every pair of files and every layer that both have: the mean correlation of units matched one to one (in sample,
    and held out: matched on one half of the samples, scored on the other), of each unit with its best partner, and of
    units with the same number. docs/metrics.md has the definitions.

    A file is a network, or any HDF5 file of arrays (samples, ..., units); `-` reads paths or records from stdin:

        basiscli train --seeds 5 | basiscli correlate - --null rotated --intervals --plot basis.png
    """
    from basiscli import sources, store
    from basiscli.analysis.assess import Request

    paths = sources.paths_from(files)
    if len(paths) < 2 and "rotated" not in nulls:
        raise click.UsageError("correlate needs two files or more (one will do with --null rotated)")
    if len(paths) < 3 and intervals:
        raise click.UsageError("--intervals are over networks and need three files or more")
    opened = sources.open_all(paths, layer=layer, split=split, tap=tap, samples=samples)
    if plot:
        store.require_new(plot, force)
    request = Request(nulls, draws, similarities, dead == "drop", seed)
    assessed = []
    with ExitStack() as stack:
        results = stack.enter_context(store.writing(out, force)) if out else None
        if results:
            results.attributes({"kind": store.RESULTS, "analysis": "correlate", "files": paths, "seed": seed})
        found = _assess(opened, request, positions, results)
        columns = _columns(request, intervals)
        records.emit(_records(found, opened, request, intervals, assessed if plot else None), style, columns)
    if plot:
        _draw(plot, paths, assessed)


def _assess(opened: Sequence, request, positions: str | int, results) -> Iterator[tuple]:
    """Yield the moments of each layer and its assessed pairs, and write their arrays into `results`."""
    from basiscli.analysis import pairs
    from basiscli.analysis.assess import assess
    from basiscli.analysis.nulls import workers

    for layer, owners in pairs.shared_layers(opened).items():
        if len(owners) < len(opened):
            _note(f"{len(owners)} of {len(opened)} files have layer {layer}; pairs of those only")
    _explain(request.similarities)
    full = request.full or len(opened) == 1
    width = max(units for source in opened for units in source.layers.values()) if request.nulls else 0
    with workers(width) as spread:
        for found in pairs.layer_moments(opened, request.seed, full, positions):
            for one in assess(found, request, spread):
                if results:
                    group = f"layers/{found.layer}/{one.pair.a}-{one.pair.b}"
                    results.array(f"{group}/correlation", one.pair.scores.r.astype("float32"))
                    results.array(f"{group}/permutation", one.pair.scores.permutation)
                yield found, one


def _records(found: Iterator[tuple], opened: Sequence, request, intervals: bool, kept: list | None) -> Iterator[dict]:
    """Yield a record a pair and layer and, with intervals, one of each layer's mean over pairs."""
    from basiscli.analysis.assess import has_interval, summarise

    layer_done: list = []
    for moments, one in found:
        if intervals and layer_done and layer_done[0].pair.layer != one.pair.layer:
            yield _summary
