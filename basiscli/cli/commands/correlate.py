"""`basiscli correlate`: basis correlation of all pairs of networks, layer by layer, beside its nulls and ceilings."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device

NULLS = ("rotated", "shuffled")
SIMILARITIES = ("cka", "cca", "svcca", "pwcca", "procrustes", "soft-matching")
# What a table shows of the many fields, so that 80 columns hold it; JSON and CSV have all.
NETWORK_COLUMNS = ("a", "b", "layer", "units_a", "dead_a", "dead_b")
PLAIN_COLUMNS = ("units_b", "identity", "matched", "matched_held_out")
NULL_COLUMNS = ("matched_held_out", "rotated_held_out_mean", "rotated_held_out_excess", "rotated_held_out_z")
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
    type=click.Choice(("post", "pre")),
    help="After or before the nonlinearity.  [default: post, or what a recorded file holds]",
)
@click.option(
    "--split",
    type=click.Choice(("test", "train", "test-shifts", "train-shifts")),
    help="Inputs of a network.  [default: test, or what a recorded file holds]",
)
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
    help=f"What the scores would be without a common basis: {', '.join(NULLS)}, all; rotated takes a single file too.",
)
@click.option("--draws", type=click.IntRange(min=2), default=100, show_default=True, help="Draws of each null.")
@click.option(
    "--similarity",
    "similarities",
    type=Names(SIMILARITIES),
    default=(),
    metavar="NAMES",
    help=f"Other similarities: {', '.join(SIMILARITIES)}, all.",
)
@click.option("--intervals", is_flag=True, help="Add the mean over pairs, with intervals over networks.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For halves, nulls and intervals."
)
@click.option("--dataset", help="Where the networks' data set is now, if it has moved.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.h5", help="Keep matrices and permutations.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the first pair; or, of several layers with --null or --intervals, the mean over pairs layer by layer.",
)
@click.option("--force", is_flag=True, help="Overwrite --out and --plot.")
@device.options
@records.format_option
def command(
    files: tuple[str, ...],
    layer: str,
    tap: str | None,
    split: str | None,
    samples: int | None,
    positions: str | int,
    dead: str,
    nulls: tuple[str, ...],
    draws: int,
    similarities: tuple[str, ...],
    intervals: bool,
    seed: int,
    dataset: str | None,
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

        basiscli train --seeds 5 | basiscli correlate - --null rotated
    """
    from basiscli.analysis.assess import Request
    from basiscli.cli.inputs import paths_from
    from basiscli.files import activations, hdf5

    paths = paths_from(files)
    if len(paths) < 2 and "rotated" not in nulls:
        raise click.UsageError("correlate needs two files or more (one will do with --null rotated)")
    if len(paths) < 3 and intervals:
        raise click.UsageError("--intervals are over networks and need three files or more")
    opened = activations.open_all(paths, layer=layer, split=split, tap=tap, samples=samples, dataset=dataset)
    if plot:
        hdf5.require_new(plot, force)
    request = Request(nulls, draws, similarities, dead == "drop", seed)
    drawn: list = []
    with ExitStack() as stack:
        results = stack.enter_context(hdf5.writing(out, force)) if out else None
        if results:
            results.attributes({"kind": hdf5.RESULTS, "analysis": "correlate", "files": paths, "seed": seed})
        found = _records(opened, request, positions, intervals, results, drawn if plot else None)
        records.emit(found, style, _columns(request, intervals))
    if plot:
        _draw(plot, paths, drawn, seed, per_layer=bool(nulls or intervals))


def _records(
    opened: Sequence, request, positions: str | int, intervals: bool, results, drawn: list | None
) -> Iterator[dict]:
    """Yield a record a pair and layer and, with intervals, one of a layer's mean over pairs.

    Arrays go into the open file `results`, what a figure needs into `drawn`.
    """
    from basiscli.analysis import assess, nulls, pairs

    for layer, owners in pairs.shared_layers(opened).items():
        if len(owners) < len(opened):
            _note(f"{len(owners)} of {len(opened)} files have layer {layer}; pairs of those only")
    for name in request.similarities:
        _note(assess.explain(name))
    width = max(units for source in opened for units in source.layers.values()) if request.nulls else 0
    with nulls.workers(width) as spread:
        for found in pairs.layer_moments(opened, request.seed, request.full or len(opened) == 1, positions):
            of_layer = []
            for one in assess.assess(found, request, spread):
                if results:
                    _store(results, one.pair)
                of_layer.append(assess.without_arrays(one, keep_r=drawn is not None and not of_layer))
                yield _record(opened, found, one, intervals)
            if drawn is not None:
                drawn.append(of_layer)
            if intervals and len(found.networks) > 2:
                yield _mean_record(opened, found, of_layer, request.seed)


def _record(opened: Sequence, found, one, intervals: bool) -> dict:
    from basiscli.analysis.assess import has_interval

    scores = one.pair.scores
    record = {
        "a": opened[one.pair.a].path,
        "b": opened[one.pair.b].path,
        "layer": found.layer,
        "units_a": scores.units[0],
        "units_b": scores.units[1],
        "dead_a": scores.dead[0],
        "dead_b": scores.dead[1],
        "samples": opened[one.pair.a].samples,
        **one.fields,
        "positions": found.positions,
    }
    undefined = [name for name, value in one.fields.items() if value is None and name in ("cca", "svcca", "pwcca")]
    if undefined:
        rows = sum(half.rows for half in found.halves)
        _note(f"layer {found.layer}: {rows} rows are too few for {', '.join(undefined)} of {record['units_a']} and "
              f"{record['units_b']} units: left empty")  # fmt: skip
    if intervals:
        record |= {f"{name}_{end}": None for name in one.fields if has_interval(name) for end in ("low", "high")}
        record["pairs"] = 1
    return record


def _mean_record(opened: Sequence, found, of_layer: list, seed: int) -> dict:
    """Return the record of a layer's mean over pairs; what differs between the networks is null."""
    from basiscli.analysis.assess import summarise

    units = {u for one in of_layer for u in one.pair.scores.units}
    width = units.pop() if len(units) == 1 else None
    summary = summarise(of_layer, seed)
    return {
        "a": f"{len(found.networks)} networks",
        "b": f"{len(of_layer)} pairs",
        "layer": found.layer,
        "units_a": width,
        "units_b": width,
        "dead_a": sum(one.pair.scores.dead[0] for one in of_layer) / len(of_layer),
        "dead_b": sum(one.pair.scores.dead[1] for one in of_layer) / len(of_layer),
        "samples": opened[found.networks[0]].samples,
        **{name: summary[name] for name in of_layer[0].fields},
        "positions": found.positions,
        **{name: value for name, value in summary.items() if name not in of_layer[0].fields},
        "pairs": len(of_layer),
    }


def _columns(request, intervals: bool) -> tuple[str, ...]:
    columns = NETWORK_COLUMNS + (NULL_COLUMNS if "rotated" in request.nulls else PLAIN_COLUMNS)
    columns += INTERVAL_COLUMNS if intervals else ()
    return columns + tuple(name.replace("-", "_") for name in request.similarities)


def _store(results, pair) -> None:
    group = f"layers/{pair.layer}/{pair.a}-{pair.b}"
    results.array(f"{group}/correlation", pair.scores.r.astype("float32"))
    results.array(f"{group}/permutation", pair.scores.permutation)


def _draw(plot: Path, paths: Sequence[str], drawn: list, seed: int, per_layer: bool) -> None:
    from basiscli.plots.networks import layers_figure, pair_figure
    from basiscli.plots.style import save

    if per_layer and len(drawn) > 1:
        figure = layers_figure(drawn, seed)
    else:
        first = drawn[0][0].pair
        same = [one[0] for one in drawn if (one[0].pair.a, one[0].pair.b) == (first.a, first.b)]
        figure = pair_figure(paths[first.a], paths[first.b], same)
    save(figure, plot)


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)
