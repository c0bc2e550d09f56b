"""`basiscli match`: find corresponding units of networks, and write networks in the unit order of the first."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from basiscli.cli import options, records
from basiscli.cli.help import Command, of_output
from basiscli.cli.types import Choice, Way


@click.command(cls=Command, short_help="Match the units of networks, and write them in the order of the first.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@click.option(
    "--by",
    type=Way(),
    default="activations",
    show_default=True,
    metavar="WAY",
    help="activations, weights, both (weights, from the match of activations on), or a file that --out wrote.",
)
@of_output("--out", type=click.Path(path_type=Path), metavar="PERM.h5", help="Keep the permutations.")
@of_output(
    "--apply",
    "applied",
    type=click.Path(path_type=Path),
    metavar="OUT.h5|FOLDER",
    help="Write B with its units in the order of A. Of several networks, each goes under its name into this folder.",
)
@click.option(
    "--restarts",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Of matching weights: descents from different starts; the best one is kept.",
)
@options.from_init
@click.option(
    "--similarity",
    type=Choice("basiscli.alignment.matching:SIMILARITIES"),
    default="correlation",
    show_default=True,
    help="The measure by which activations are matched.",
)
@options.inputs("--split", "Images on which activations are computed.", default="train", show_default=True)
@click.option(
    "--samples", type=click.IntRange(min=2), default=10_000, show_default=True, metavar="N",
    help="At most so many images, evenly spread.",
)  # fmt: skip
@options.moved_dataset
@options.seeded("For starts of restarts.")
@options.forced("Overwrite --out and --apply.")
@options.computing
@records.format_option
def command(files, out, applied, force, style, **chosen) -> None:
    """Which unit of B corresponds to which unit of A?

    Finds, for each group of units that one permutation must move, the permutation that brings B's units into the
    order of A's; the groups follow from the network's graph, residual links included. Several networks are all
    matched to the first. docs/match.md has the definitions.

    Prints a record for each network and group, and one for all groups: objective (cosine of A's and the permuted B's
    weights) and correlation before and after, restarts that agreed, and the largest change of a logit of the
    permuted network, which is always measured on test images. `-` reads paths or records from stdin.

    \b
    basiscli match runs/a/seed0.h5 runs/a/seed1.h5 --apply matched.h5
    basiscli match a.h5 b.h5 c.h5 --by weights --out permutations.h5
    """
    from basiscli.alignment.matching import MatchRequest
    from basiscli.cli.inputs import paths_from
    from basiscli.experiments.matches import match_files

    paths = paths_from(files)
    if len(paths) < 2:
        raise click.UsageError("match needs two networks or more (a file that is named twice counts once)")
    if chosen["from_init"] and chosen["by"] == "activations":
        raise click.UsageError("--from-init is about weights: give --by weights or --by both, too")
    targets = _targets(applied, paths[1:])
    if out and out.resolve() in [target.resolve() for target in targets.values()]:
        raise click.UsageError(f"--out and --apply are one file, {out}: name two")
    command_line = records.command_line()
    results = match_files(paths, MatchRequest(**chosen), targets=targets, out=out, command=command_line, force=force)
    records.emit(results, style, row=partial(_row, several=len(paths) > 2))


def _targets(applied: Path | None, others: Sequence[str]) -> dict[str, Path]:
    """Return the file of each permuted network, by the path of the original."""
    if applied is None:
        return {}
    if len(others) == 1 and not applied.is_dir():
        return {others[0]: applied}
    if not applied.is_dir():
        raise click.UsageError(f"--apply {applied}: of several networks, name an existing folder")
    targets = {path: applied / Path(path).name for path in others}
    if len(set(targets.values())) < len(others):
        raise click.UsageError(f"--apply {applied}: two networks have the same file name; write them one by one")
    return targets


def _row(record: Mapping, several: bool) -> dict:
    """Return the row of a table, for 80 columns: values before and after share a column."""
    return {
        **({"b": record["b"]} if several else {}),
        "group": record["group"],
        "units": record["units"],
        "moved": record["moved"],
        "objective": _change(record, "objective"),
        "correlation": _change(record, "correlation"),
        "agreed": f"{record['agreed']} of {record['restarts']}" if record["restarts"] else None,
    }


def _change(record: Mapping, field: str) -> str | None:
    before, after = record[f"{field}_before"], record[f"{field}_after"]
    return None if before is None else f"{before:.3f} to {after:.3f}"
