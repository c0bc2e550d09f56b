"""`basiscli correlate`: basis correlation of all pairs of networks, layer by layer."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from basiscli import records

# What fits into 80 columns; JSON and CSV have all fields.
TABLE = ("a", "b", "layer", "units_a", "units_b", "dead_a", "dead_b", "identity", "matched", "matched_held_out")


@click.command(short_help="Correlate the units of networks, pair by pair and layer by layer.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@click.option("--layer", default="*", show_default=True, metavar="GLOB", help="Which layers.")
@click.option("--tap", type=click.Choice(("pre", "post")), default="post", show_default=True,
              help="Activations before or after the nonlinearity.")  # fmt: skip
@click.option("--split", default="test", show_default=True, help="Which split of a network's data set.")
@click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use the first N samples only.")
@click.option("--dead", type=click.Choice(("zero", "drop")), default="zero", show_default=True,
              help="A unit without variance correlates zero, or is left out.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the halves.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.h5", help="Keep matrices and permutations.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw the first pair.")
@click.option("--force", is_flag=True, help="Overwrite --out and --plot.")
@records.format_option
def command(
    files: tuple[str, ...],
    layer: str,
    tap: str,
    split: str,
    samples: int | None,
    dead: str,
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

        basiscli train --seeds 5 | basiscli correlate -
    """
    from basiscli import sources, store

    paths = sources.paths_from(files)
    if len(paths) < 2:
        raise click.UsageError("correlate needs two files or more")
    opened = sources.open_all(paths, layer=layer, split=split, tap=tap, samples=samples)
    if plot:
        store.require_new(plot, force)
    with ExitStack() as stack:
        results = stack.enter_context(store.writing(out, force)) if out else None
        if results:
            results.attributes({"kind": store.RESULTS, "analysis": "correlate", "files": paths, "seed": seed})
        drawn = [] if plot else None
        records.emit(_records(opened, seed, dead == "drop", results, drawn), style, TABLE)
    if plot:
        from basiscli import figures

        figures.save(figures.pair(paths[drawn[0].a], paths[drawn[0].b], drawn), plot)


def _records(opened: list, seed: int, drop_dead: bool, results, drawn: list | None) -> Iterator[dict]:
    """Yield a record a pair and layer; write its arrays into `results`, keep those of the first pair in `drawn`."""
    from basiscli.analysis import pairs

    for layer, owners in pairs.shared_layers(opened).items():
        if len(owners) < len(opened):
            click.echo(f"note: {len(owners)} of {len(opened)} files have layer {layer}; pairs of those only", err=True)
    for moments in pairs.layer_moments(opened, seed):
        for pair in pairs.compare_pairs(moments, drop_dead):
            if results:
                _store(results, pair)
            if drawn is not None and (not drawn or (pair.a, pair.b) == (drawn[0].a, drawn[0].b)):
                drawn.append(pair)
            yield _record(opened, pair)


def _record(opened: list, pair) -> dict:
    scores = pair.scores
    return {
        "a": opened[pair.a].path,
        "b": opened[pair.b].path,
        "layer": pair.layer,
        "units_a": scores.units[0],
        "units_b": scores.units[1],
        "dead_a": scores.dead[0],
        "dead_b": scores.dead[1],
        "samples": opened[pair.a].samples,
        "identity": scores.identity,
        "matched": scores.matched,
        "matched_held_out": scores.matched_held_out,
        "semi_matched": scores.semi_matched,
    }


def _store(results, pair) -> None:
    group = f"layers/{pair.layer}/{pair.a}-{pair.b}"
    results.array(f"{group}/correlation", pair.scores.r.astype("float32"))
    results.array(f"{group}/permutation", pair.scores.permutation)
