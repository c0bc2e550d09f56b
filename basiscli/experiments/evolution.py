"""Networks over their training (docs/evolve.md): share, privilege, accuracy and barrier at the epochs that are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from basiscli.alignment import corrections, interpolation, matching
from basiscli.analysis import nulls
from basiscli.analysis.assess import SCORES, CorrelationRequest, assess_layers
from basiscli.analysis.passes import layer_moments
from basiscli.analysis.privilege import layer_privileges
from basiscli.errors import BadInput
from basiscli.experiments import measured, training
from basiscli.experiments.measured import OF_NETWORKS, OF_PAIRS, Pair, told
from basiscli.experiments.training import TrainingJob
from basiscli.files import activations
from basiscli.files.datasets import load_dataset
from basiscli.files.networks import DONE, Loaded, load
from basiscli.notes import log
from basiscli.training import defaults
from basiscli.training.evaluation import evaluate

# Halves, starts of matching and samples are drawn from this seed.
SEED = 0
# Rotations of each network's activations for its privilege.
DRAWS = 10
# The fields of the barriers, by match.
BARRIERS = {matching.NONE: "barrier", matching.ACTIVATIONS: "matched_barrier"}


@dataclass(frozen=True)
class Evolution:
    """The networks to train, with the epochs to keep, and how to measure them there.

    split None: the images that the data set is correlated on. tap, positions: of correlations; privilege is always of
    activations before the nonlinearity. barrier: whether to walk between networks. points: values of λ on the way.
    """

    job: TrainingJob
    request: CorrelationRequest
    split: str | None = None
    tap: str = "pre"
    positions: str | int = "all"
    barrier: bool = True
    points: int = 11


def evolve(evolution: Evolution) -> Iterator[dict]:
    """Yield a record for each epoch and layer, and one for each epoch's mean over layers, with intervals over networks.

    Missing networks are trained first; rises are over the first epoch, by seed. Raises BadInput as `pairs_over_epochs`,
    and if fewer than two networks are left.
    """
    first: dict[str, measured.Measured] = {}
    for epoch, records in groupby(pairs_over_epochs(evolution), lambda record: record["epoch"]):
        of_epoch = list(records)
        if of_epoch[0]["layer"] is None:
            raise BadInput(f"all networks but {of_epoch[0]['networks']} diverged in training; choose a smaller `lr`")
        units = {record["layer"]: record["units"] for record in of_epoch}
        for layer, values in measured.by_layer(of_epoch).items():
            over = first.setdefault(layer, values)
            yield {
                "epoch": epoch,
                "layer": layer,
                "units": units.get(layer),
                **{name: of_epoch[0][name] for name in ("networks", "diverged")},
                **values.fields(),
                **values.rises(None if over is values else over),
                **{name: of_epoch[0][name] for name in _ABOUT},
            }


def pairs_over_epochs(evolution: Evolution) -> Iterator[dict]:
    """Train missing networks; yield a record for each epoch, layer and pair of networks (docs/evolve.md).

    Networks that diverged are left out and counted. If fewer than two are left, there is one record, without a layer.
    Raises BadInput before training as `training.train_networks` does, also for kept networks of another run.
    """
    dataset = load_dataset(evolution.job.dataset, evolution.job.channels)
    _, job = training.plan(evolution.job, dataset)
    if evolution.job.out is None:
        job = replace(job, out=f"{job.out}-evolve")
    job = replace(job, resume=not job.force, activations=False)
    evolution = replace(evolution, job=job, split=evolution.split or defaults.probe(dataset))
    records = list(training.train_networks(job, go_on="the same command goes on"))
    seeds = [record["seed"] for record in records if record["status"] == DONE]
    for record in records:
        if record["status"] != DONE:
            log.warning(f"{record['path']}: diverged in training, left out")
    shared = {"networks": len(seeds), "diverged": len(records) - len(seeds), "epochs": job.epochs,
              "optimizer": job.optimizer, "tap": evolution.tap, "correlated_on": evolution.split}  # fmt: skip
    if len(seeds) < 2:
        yield dict.fromkeys(_FIELDS) | {"epoch": job.epochs} | shared
        return
    folder = job.folder(dataset)
    kept: list[int | None] = [*job.kept_epochs(), None]
    for epoch in kept:
        paths = [str(folder.file(seed, epoch)) for seed in seeds]
        at = {"epoch": job.epochs if epoch is None else epoch}
        log.info(f"epoch {at['epoch']}: measuring")
        for record in _pairs(evolution, seeds, paths):
            yield dict.fromkeys(_FIELDS) | at | record | shared


# What all records say of the networks and of the correlations; the fields of a record of a pair, in order.
_ABOUT = ("epochs", "optimizer", "tap", "correlated_on", "correlated_images")
_FIELDS = (
    "epoch", "layer", "seed_a", "seed_b", "networks", "diverged", "units",
    *(f"{name}_{side}" for name in OF_NETWORKS for side in "ab"), "share", *OF_PAIRS,
    *_ABOUT,
)  # fmt: skip


def _pairs(evolution: Evolution, seeds: Sequence[int], paths: Sequence[str]) -> Iterator[dict]:
    """Yield the records of the networks of an epoch: a record for each layer and pair."""
    networks = [load(path) for path in paths]
    opened = activations.open_all(paths, split=evolution.split, tap=evolution.tap)
    accuracies = [_accuracy(loaded, evolution) for loaded in networks]
    barriers = _barriers(evolution, networks) if evolution.barrier else {}
    privileges = _privileges(evolution, paths)
    with nulls.workers(max(opened[0].layers.values())) as spread:
        reading = evolution.request.reading(evolution.positions)
        for compared, assessments in assess_layers(layer_moments(opened, reading), evolution.request, spread):
            for assessment in assessments:
                pair, scores = (assessment.pair.a, assessment.pair.b), assessment.pair.scores
                record = {"layer": compared.layer, "units": scores.units[0]}
                for side, k, dead in zip("ab", pair, scores.dead, strict=True):
                    record |= {f"seed_{side}": seeds[k], f"test_accuracy_{side}": accuracies[k]}
                    record |= {f"privilege_{side}": privileges[compared.layer][k], f"dead_{side}": dead}
                yield (
                    record
                    | {name: assessment.fields[name] for name in (*SCORES, "share")}
                    | {"cka": assessment.fields["cka_debiased"], "correlated_images": opened[0].samples[compared.layer]}
                    | {name: of_pairs[pair] for name, of_pairs in barriers.items()}
                )


def _accuracy(loaded: Loaded, evolution: Evolution) -> float:
    """Return the test accuracy of a network: from its history, or by evaluation before the first epoch."""
    known = loaded.file.history.get("test_accuracy", np.empty(0))
    if len(known):
        return float(known[-1])
    test = load_dataset(evolution.job.dataset, evolution.job.channels).test
    return float(evaluate(loaded.network, loaded.arrays, test, loaded.standard)[1][0])


def _barriers(evolution: Evolution, networks: Sequence[Loaded]) -> dict[str, dict[Pair, float | None]]:
    """Return the loss barrier on test images of every pair, not matched, and matched by activations on training images.

    Statistics of BatchNorm are reset; there is no other correction. Networks that no walk can connect have no barrier,
    with a note that says why.
    """
    reset = corrections.default(networks[0].network) == corrections.RESET
    correct = [corrections.RESET if reset else corrections.NONE]
    try:
        matching.require_alike(networks)
        walk = interpolation.prepare_walk(
            networks, load_dataset(evolution.job.dataset, evolution.job.channels), ("test",),
            correct_on=interpolation.CORRECT_ON, seed=SEED,
            points=evolution.points,
        )  # fmt: skip
    except BadInput as error:
        log.warning(f"no barrier: {error}")
        return {}
    found = {}
    for match, aligned in interpolation.alignments(networks, interpolation.requests(list(BARRIERS), seed=SEED)):
        walked = interpolation.walk_pairs(walk, networks, match, aligned, correct)
        heights = {(w.a, w.b): float(w.curves["test"].fields()["barrier"]) for w in walked}
        found[BARRIERS[match]] = {pair: height if np.isfinite(height) else None for pair, height in heights.items()}
    return found


def _privileges(evolution: Evolution, paths: Sequence[str]) -> dict[str, list[float | None]]:
    """Return the privilege of every network by layer; None, with a note, where a layer is constant."""

    def without(layer: str, reason: BadInput) -> None:
        log.warning(f"no privilege: {reason}")

    found: dict[str, list[float | None]] = {}
    for source in activations.open_all(paths, split=evolution.split, tap="pre"):
        of_network = {
            of_layer.layer: of_layer.scores["privilege"]
            for of_layer in layer_privileges(source, DRAWS, SEED, evolution.positions, failed=without)
        }
        for layer in source.layers:
            found.setdefault(layer, []).append(of_network.get(layer))
    return found


def sentences(records: Sequence[Mapping]) -> Iterator[str]:
    """Yield what the records of `evolve` say in words: of share, privilege, accuracy and barrier, mean over layers."""
    line = [record for record in records if record["layer"] == measured.ALL]
    start, end = line[0], line[-1]
    for name in measured.RISES:
        over = "" if name == "test_accuracy" else ", mean over layers"
        words = f"{name.replace('_', ' ')}{over}: {told(start, name)} at epoch {start['epoch']}"
        if end is not start and end[name] is not None and start[name] is not None:
            words += f", {told(end, name)} at epoch {end['epoch']}; {_change(line, name)}"
        yield words
    if end["barrier"] is not None:
        yield (
            f"barrier of the loss, not matched: {told(start, 'barrier')} at epoch {start['epoch']}, "
            f"{told(end, 'barrier')} at epoch {end['epoch']}; matched by activations: {told(end, 'matched_barrier')}"
        )
    if end["diverged"]:
        yield f"{end['diverged']} networks diverged in training and are left out"


def _change(line: Sequence[Mapping], name: str) -> str:
    """Say whether a field changed for certain, and by which epoch it had come half of the way."""
    start, end = line[0], line[-1]
    low, high = end[f"{name}_rise_low"], end[f"{name}_rise_high"]
    if low is None:
        return "too few networks for an interval of the change"
    if low <= 0 <= high:
        return f"no certain change, {told(end, f'{name}_rise')}"
    middle = (start[name] + end[name]) / 2
    sign = 1 if end[name] > start[name] else -1
    half = next(record["epoch"] for record in line if record[name] is not None and sign * (record[name] - middle) >= 0)
    return f"it {'rises' if sign > 0 else 'falls'} by {told(end, f'{name}_rise')}, half of it by epoch {half}"
