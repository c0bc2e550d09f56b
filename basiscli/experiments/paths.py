"""The straight line between networks, pair by pair and condition by condition, as records (docs/connectivity.md)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from basiscli.alignment import corrections, interpolation
from basiscli.analysis import barriers
from basiscli.errors import BadInput
from basiscli.files import kinds
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import save_network


def interpolate_files(
    paths: Sequence[str],
    *,
    matches: Sequence[str],
    corrected: Sequence[str] | None = None,
    splits: Sequence[str] = ("test",),
    restarts: int | None = None,
    from_init: bool = False,
    points: int = 25,
    samples: int | None = None,
    correct_on: int = interpolation.CORRECT_ON,
    temperature: float = 1.0,
    seed: int = 0,
    dataset: str | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> Iterator[dict]:
    """Yield a record for each pair of networks, condition and split, then one for each condition's mean over pairs.

    matches: ways to match, or files of permutations. corrected None: without correction, and with the correction that
    the networks need. A figure goes into `plot` after the last record. Raises BadInput for networks that do not fit
    together, for a correction that they cannot have, and if `plot` exists, unless `force`.
    """
    if plot:
        kinds.require_target(plot, kinds.FIGURE, force, paths)
    networks = interpolation.load_alike(paths, dataset)
    network = networks[0].network
    corrected = corrected or (corrections.NONE, corrections.default(network))
    corrections.require_possible(network, corrected)
    walk = interpolation.prepare_walk(
        networks, dataset_of(networks[0]), splits, points=points, samples=samples, correct_on=correct_on,
        temperature=temperature, seed=seed,
    )  # fmt: skip
    requests = interpolation.requests(matches, restarts=restarts, from_init=from_init, seed=seed)
    walked: list = []
    yield from _records(walk, networks, requests, corrected, walked)
    if plot:
        from basiscli.plots import experiments
        from basiscli.plots.style import save

        save(experiments.paths_figure(_by_condition(walked), paths), plot)


def merge_files(
    paths: Sequence[str],
    out: Path,
    *,
    match: str,
    weights: Sequence[float] | None = None,
    correct: str | None = None,
    restarts: int | None = None,
    from_init: bool = False,
    correct_on: int = interpolation.CORRECT_ON,
    seed: int = 0,
    dataset: str | None = None,
    command: str = "",
    force: bool = False,
) -> dict:
    """Write the mean of networks, each matched to the first, and return its record.

    weights: the share of each network, which must add up to 1; None: equal shares. correct None: the correction that
    the networks need. Loss and accuracy in the record are those of the merged network on the test images; with
    `_before` they are means over the networks. Raises BadInput as `interpolate_files` does.
    """
    kinds.require_target(out, kinds.NETWORK, force, paths)
    networks = interpolation.load_alike(paths, dataset)
    correct = correct or corrections.default(networks[0].network)
    corrections.require_possible(networks[0].network, [correct])
    walk = interpolation.prepare_walk(networks, dataset_of(networks[0]), ("test",), correct_on=correct_on, seed=seed)
    shares = _shares(weights, len(networks))
    (request,) = interpolation.requests([match], restarts=restarts, from_init=from_init, seed=seed).values()
    merged, scores = interpolation.merge(walk, networks, request, correct, shares)
    save_network(out, replace(merged, command=command), force)
    record = {"path": str(out), "networks": len(networks), "match": match, "correct": correct}
    record["weights"] = shares.tolist()
    for name, values in scores.items():
        record |= {name: values[-1], f"{name}_before": values[:-1].mean()}
    return record


def _shares(weights: Sequence[float] | None, count: int) -> np.ndarray:
    """Return the share of each of so many networks. Raises BadInput for another number of shares, or another sum."""
    if weights is None:
        return np.full(count, 1 / count)
    if len(weights) != count or not math.isclose(sum(weights), 1, abs_tol=1e-6):
        raise BadInput(f"`weights` {','.join(f'{w:g}' for w in weights)}: give {count} numbers that add up to 1")
    return np.array(weights, np.float64)


def _records(walk, networks: Sequence, requests, corrected, walked: list) -> Iterator[dict]:
    """Yield a record for each pair, condition and split; with several pairs, then one for each condition's mean."""
    absent = {f"{name}_{end}": None for name in barriers.BARRIERS for end in ("low", "high", "error")}
    for match, aligned in interpolation.alignments(networks, requests):
        for walk_of_pair in interpolation.walk_pairs(walk, networks, match, aligned, corrected):
            walked.append(walk_of_pair)
            names = {"a": networks[walk_of_pair.a].path, "b": networks[walk_of_pair.b].path}
            for split, curve in walk_of_pair.curves.items():
                yield (
                    names
                    | _record(walk_of_pair, split, curve.fields() | {"difference": walk_of_pair.difference}, curve, 1)
                    | absent
                )
    if len(networks) > 2:
        yield from _means(len(networks), walked)


def _means(networks: int, walked: Sequence) -> Iterator[dict]:
    for (condition, split), curves in _by_condition(walked).items():
        of_one = [w for w in walked if (w.match, w.correct) == condition]
        names = {"a": f"{networks} networks", "b": f"{len(curves)} pairs"}
        fields, intervals = barriers.mean_fields(curves)
        difference = {"difference": max(w.difference for w in of_one)}
        yield names | _record(of_one[0], split, fields | difference, barriers.mean(curves), len(curves)) | intervals


def _record(walk_of_pair, split: str, fields: dict, curve, pairs: int) -> dict:
    values = {name: [float(v) for v in getattr(curve, name)] for name in ("lambdas", "loss", "accuracy")}
    return {
        "match": walk_of_pair.match,
        "correct": walk_of_pair.correct,
        "split": split,
        **fields,
        **values,
        "pairs": pairs,
    }


def _by_condition(walked: Sequence) -> dict:
    """Return the curves of all pairs, by pair, for each ((match, correct), split)."""
    curves: dict = {}
    for walk_of_pair in walked:
        for split, curve in walk_of_pair.curves.items():
            curves.setdefault(((walk_of_pair.match, walk_of_pair.correct), split), {})[
                walk_of_pair.a, walk_of_pair.b
            ] = curve
    return curves
