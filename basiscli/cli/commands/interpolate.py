"""`basiscli interpolate`: loss and accuracy on the straight line between networks, matched or not, corrected or not."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from basiscli.cli import records
from basiscli.cli.commands import device
from basiscli.cli.commands.correlate import Names
from basiscli.cli.commands.ranges import Finite

MATCHES = ("none", "activations", "weights", "both")
CORRECTIONS = ("none", "reset-bn", "repair")
SPLITS = ("test", "train")


class Matches(Names):
    """Ways to match, separated by commas; the name of a file of permutations is one."""

    def convert(self, value, parameter, context) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = dict.fromkeys(value.split(","))
        files = [name for name in names if name.endswith(".h5")]
        ways = ",".join(name for name in names if name not in files)
        return (*(super().convert(ways, parameter, context) if ways or not files else ()), *files)


class Points(click.ParamType):
    """An odd number from 3 on."""

    name = "points"

    def convert(self, value, parameter, context) -> int:
        if str(value).isdecimal() and int(value) >= 3 and int(value) % 2:
            return int(value)
        self.fail(f"'{value}': an odd number from 3 on, so that the midpoint is one", parameter, context)


def require_weights(matches: Sequence[str], from_init: bool) -> None:
    """Raise UsageError for --from-init where no weights are matched."""
    if from_init and not {"weights", "both"} & set(matches):
        raise click.UsageError("--from-init is about weights: give --match weights or --match both, too")


def walk_options(function: Callable) -> Callable:
    """Add the options that interpolate and connectivity share."""
    options = (
        click.option(
            "--match",
            "matches",
            type=Matches(MATCHES),
            default=MATCHES[:3],
            metavar="NAMES",
            help="none, activations, weights, both (weights, from activations on); for interpolate also files that"
            " match wrote.  [default: none,activations,weights]",
        ),
        click.option("--restarts", type=click.IntRange(min=1), help="Of matching weights (see match).  [default: 8]"),
        click.option("--from-init", is_flag=True, help="Match weights minus what they were before training."),
        click.option(
            "--correct",
            "corrected",
            type=Names(CORRECTIONS),
            metavar="NAMES",
            help="none, reset-bn (BatchNorm's statistics), repair (mean and deviation of every unit).  [default: none"
            " and reset-bn; without BatchNorm none and repair]",
        ),
        click.option(
            "--correct-on",
            type=click.IntRange(min=2),
            default=2000,
            show_default=True,
            metavar="N",
            help="Training images that corrections look at.",
        ),
        click.option("--points", type=Points(), default=25, show_default=True, help="Values of λ from 0 to 1, odd."),
        click.option(
            "--split", "splits", type=Names(SPLITS), default=("test",), metavar="NAMES",
            help="Images to evaluate: test, train, or test,train.  [default: test]",
        ),
        click.option("--samples", type=click.IntRange(min=2), metavar="N", help="Of each split.  [default: all]"),
        click.option(
            "--temperature", type=Finite(min=0, min_open=True), default=1.0, show_default=True,
            help="Divides the logits.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@click.command(short_help="Walk on the straight line between networks: how high is the barrier?")
@click.argument("files", nargs=-1, required=True, metavar="A.h5 B.h5 [MORE...]")
@walk_options
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For matching, samples and intervals."
)
@click.option("--dataset", help="Where the networks' data set is now, if it has moved.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw loss and accuracy.")
@click.option("--force", is_flag=True, help="Overwrite --plot.")
@device.options
@records.format_option
def command(
    files,
    matches,
    restarts,
    from_init,
    corrected,
    correct_on,
    points,
    splits,
    samples,
    temperature,
    seed,
    dataset,
    plot,
    force,
    style,
) -> None:
    """How high does the loss rise between two networks?

    For every pair of networks, every way to match the second to the first and every correction: loss and accuracy at
    each λ of θ(λ) = (1 - λ) θ_a + λ π(θ_b), the barrier (the most that the loss lies above the chord between its
    ends), and its height at the midpoint; then the mean over pairs, with intervals over networks
    (docs/connectivity.md). `-` reads paths or records from stdin.

    \b
    basiscli interpolate runs/digits-mlp/seed0.h5 runs/digits-mlp/seed1.h5 --plot path.png
    basiscli train --seeds 5 | basiscli interpolate - --match none,activations --split test,train
    """
    require_weights(matches, from_init)
    from basiscli.alignment import corrections, interpolation
    from basiscli.cli.inputs import paths_from
    from basiscli.files import hdf5
    from basiscli.files.datasets import dataset_of

    if plot:
        hdf5.require_new(plot, force)
    networks = interpolation.load_alike(paths_from(files), dataset)
    network = networks[0].network
    corrected = corrected or ("none", corrections.default(network))
    corrections.require_possible(network, corrected)
    walk = interpolation.plan(
        networks, dataset_of(networks[0]), splits, points=points, samples=samples, correct_on=correct_on,
        temperature=temperature, seed=seed,
    )  # fmt: skip
    requests = interpolation.requests(matches, restarts=restarts, from_init=from_init, seed=seed)
    walked: list = []
    records.emit(_records(walk, networks, requests, corrected, walked, seed), style, row=_row)
    if plot:
        from basiscli.plots import experiments
        from basiscli.plots.style import save

        save(experiments.paths_figure(_by_condition(walked), seed), plot)


def _records(walk, networks: Sequence, requests, corrected, walked: list, seed: int) -> Iterator[dict]:
    """Yield a record for each pair, condition and split, then one for each condition's mean, if pairs are several."""
    from basiscli.alignment import interpolation
    from basiscli.analysis.barriers import BARRIERS

    absent = {f"{name}_{end}": None for name in BARRIERS for end in ("low", "high")}
    for match, aligned in interpolation.alignments(networks, requests):
        for one in interpolation.walk_pairs(walk, networks, match, aligned, corrected):
            walked.append(one)
            names = {"a": networks[one.a].path, "b": networks[one.b].path}
            for split, curve in one.curves.items():
                yield names | _record(one, split, curve.fields() | {"difference": one.difference}, curve, 1) | absent
    if len(networks) > 2:
        yield from _means(len(networks), walked, seed)


def _means(networks: int, walked: Sequence, seed: int) -> Iterator[dict]:
    from basiscli.analysis import barriers

    for (one, split), curves in _by_condition(walked).items():
        of_one = [w for w in walked if (w.match, w.correct) == one]
        names = {"a": f"{networks} networks", "b": f"{len(curves)} pairs"}
        fields, intervals = barriers.mean_fields(curves, seed)
        difference = {"difference": max(w.difference for w in of_one)}
        yield names | _record(of_one[0], split, fields | difference, barriers.mean(curves), len(curves)) | intervals


def _record(one, split: str, fields: dict, curve, pairs: int) -> dict:
    values = {name: [float(v) for v in getattr(curve, name)] for name in ("lambdas", "loss", "accuracy")}
    return {"match": one.match, "correct": one.correct, "split": split, **fields, **values, "pairs": pairs}


def _row(record: dict) -> dict:
    """Return the row of a table, so that 80 columns hold it."""
    pair = f"{Path(record['a']).stem} {Path(record['b']).stem}" if record["pairs"] == 1 else record["b"]
    return {
        "networks": pair,
        "match": record["match"],
        "correct": record["correct"],
        "split": record["split"],
        "barrier": records.interval(record, "barrier", digits=2),
        "points lost": f"{100 * record['accuracy_barrier']:.1f}",
    }


def _by_condition(walked: Sequence) -> dict:
    """Return the curves of all pairs, by pair, for each ((match, correct), split)."""
    found: dict = {}
    for one in walked:
        for split, curve in one.curves.items():
            found.setdefault(((one.match, one.correct), split), {})[one.a, one.b] = curve
    return found
