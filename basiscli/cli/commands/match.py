"""`basiscli match`: which unit of one network is which of another, and networks written in another's order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device

WAYS = ("activations", "weights", "both")


class Way(click.ParamType):
    """A way to match, or a file of permutations."""

    name = "way"

    def convert(self, value, parameter, context) -> str:
        if value not in WAYS and not Path(value).exists():
            self.fail(f"'{value}' is none of {', '.join(WAYS)}, and no file", parameter, context)
        return value


@click.command(short_help="Match the units of networks, and write them in the order of the first.")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@click.option(
    "--by",
    type=Way(),
    default="activations",
    show_default=True,
    metavar="WAY",
    help="activations, weights, both (weights, from the match of activations on), or a file that --out wrote.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="PERM.h5", help="Keep the permutations.")
@click.option(
    "--apply",
    "applied",
    type=click.Path(path_type=Path),
    metavar="OUT.h5|FOLDER",
    help="Write B in the order of A as a network; of several networks, each under its name into an existing folder.",
)
@click.option(
    "--restarts",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Of matching weights: descents from other starts, of which the best is kept.",
)
@click.option("--from-init", is_flag=True, help="Match weights minus what they were before training.")
@click.option(
    "--similarity",
    type=click.Choice(("correlation", "product")),
    default="correlation",
    show_default=True,
    help="What activations are matched by.",
)
@click.option(
    "--split",
    type=click.Choice(("train", "test", "train-shifts", "test-shifts")),
    default="train",
    show_default=True,
    help="Images that activations are of.",
)
@click.option(
    "--samples", type=click.IntRange(min=2), default=10_000, show_default=True, metavar="N",
    help="At most so many of them, evenly spread.",
)  # fmt: skip
@click.option("--dataset", help="Where the networks' data set is now, if it has moved.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For starts of restarts.")
@click.option("--force", is_flag=True, help="Overwrite --out and --apply.")
@device.options
@records.format_option
def command(files, out, applied, force, style, **options) -> None:
    """Which unit of B is which of A?

    Finds, for each group of units that one permutation must move, the permutation that brings B's units into the
    order of A's; the groups follow from the network's graph, residual links included. Several networks are all
    matched to the first. docs/match.md has the definitions.

    Prints a record for each network and group, and one for all groups: objective (cosine of A's and the permuted B's
    weights) and correlation before and after, restarts that agreed, and how much a logit of the permuted network
    differs, which is checked on test images every time. `-` reads paths or records from stdin.

    \b
    basiscli match runs/digits-mlp/seed0.h5 runs/digits-mlp/seed1.h5 --apply matched.h5
    basiscli match a.h5 b.h5 c.h5 --by weights --restarts 32 --out permutations.h5
    """
    from basiscli.alignment import matching
    from basiscli.cli.inputs import paths_from
    from basiscli.files import hdf5
    from basiscli.files.networks import load

    paths = paths_from(files)
    if len(paths) < 2:
        raise click.UsageError("match needs two networks or more (a file that is named twice counts once)")
    if options["from_init"] and options["by"] == "activations":
        raise click.UsageError("--from-init is about weights: give --by weights or --by both, too")
    targets = _targets(applied, paths[1:])
    if out and out.resolve() in [target.resolve() for target in targets.values()]:
        raise click.UsageError(f"--out and --apply are one file, {out}: name two")
    for target in (*targets.values(), *([out] if out else [])):
        hdf5.require_new(target, force)
    networks = [load(path) for path in paths]
    request = matching.Request(**options)
    records.emit(_records(networks, request, targets, out, force), style, row=partial(_row, several=len(paths) > 2))


def _records(networks: Sequence, request, targets: Mapping[str, Path], out: Path | None, force: bool) -> Iterator[dict]:
    """Yield the records of each network after the first, once it is proven and written."""
    from basiscli.alignment import matching
    from basiscli.files.networks import save_network

    reference, *others = networks
    found = []
    images = None
    for other, alignment in zip(others, matching.align_all(networks, request), strict=True):
        images = matching.proof_images(reference, request.dataset) if images is None else images
        moved, difference = matching.apply(other, alignment.permutations, images)
        target = targets.get(other.path)
        if target:
            origin = {"made": "match", "of": [reference.path, other.path], "by": request.by}
            save_network(target, replace(moved.file, command=records.command_line(), origin=origin), force)
        found.append(alignment)
        for group in (*alignment.groups, alignment.total):
            record = {"a": reference.path, "b": other.path, "by": request.by, **asdict(group)}
            record |= {"restarts": request.restarts if request.searches else 0, "logit_difference": difference}
            yield record | ({"path": str(target)} if target else {})
    if out:
        matching.save(out, [one.path for one in networks], found, request, force)


def _targets(applied: Path | None, others: Sequence[str]) -> dict[str, Path]:
    """Return where each permuted network goes."""
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
    """Return the row of a table: what was before and after in one column, so that 80 columns hold them."""
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
