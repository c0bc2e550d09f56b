"""The rotation experiment (docs/rotate.md): train networks around a fixed map, and set the arms beside the identity."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from basiscli.analysis import random_maps, statistics
from basiscli.analysis.random_maps import IDENTITY, ORTHOGONAL, PERMUTATION, SYMMETRY
from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.experiments import rotation_sites, training
from basiscli.experiments.rotation_sites import CONTINUE, NOTHING, POST, UPSTREAM, Arm, Protocol, Site, Slice
from basiscli.files import checkpoint
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import (
    DONE,
    UNFINISHED,
    Loaded,
    NetworkFile,
    load,
    load_network,
    require_arrays,
    require_finite,
    save_network,
)
from basiscli.kernels.cpu import compiling
from basiscli.nn import cost
from basiscli.nn.graph import predict
from basiscli.training.images import probe_batch
from basiscli.training.progress import Progress
from basiscli.training.recipe import STREAMS, Recipe
from basiscli.training.run import Run

# What the orthogonal arms are set against, paired.
CONTROLS = (PERMUTATION, SYMMETRY)
# Penalties, positive where the arm is worse: what they compare, and with which sign.
PENALTIES = {
    "penalty_accuracy": ("test_accuracy", -1),
    "penalty_test_loss": ("test_loss", 1),
    "penalty_train_loss": ("train_loss", 1),
}
MEASURED = ("test_accuracy", "test_loss", "train_loss")
# The slices of repeat r of a network with seed s have the seed SEEDS (s + 1) + r: none of the first thousand.
SEEDS = 1000
# A run of short epochs does not write its files after each.
CHECKPOINT_SECONDS = 60
# Test images on which a folded inverse is tried, and the reconstruction error taken.
SHOWN = 1000


@dataclass(frozen=True)
class Result:
    """How one slice of one network ended; failed: its training loss did not get below that of guessing."""

    test_accuracy: float
    test_loss: float
    train_loss: float
    failed: bool


@dataclass(frozen=True)
class Job:
    """One network at one site: the results of the slices that are done, and the groups of those that are not."""

    place: int
    network: Loaded
    site: Site
    results: Mapping[Slice, Result]
    groups: Sequence[training.Group]


@dataclass(frozen=True)
class Experiment:
    """Networks of one architecture, trained on one data set; the protocol, the sites, and where files go.

    checksums: SHA-256 in hex of the networks' arrays, by seed.
    """

    networks: Sequence[Loaded]
    checksums: Mapping[int, str]
    dataset: Dataset
    protocol: Protocol
    sites: Sequence[Site]
    recipe: Recipe
    folder: Path
    command: str

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        globs: Sequence[str],
        protocol: Protocol,
        dataset: str | None = None,
        out: str | None = None,
        command: str = "",
    ) -> "Experiment":
        """Return the experiment on network files. Raises BadInput for networks, layers or kinds that do not fit."""
        networks = [load(path) for path in paths]
        _require_alike(networks)
        first = networks[0]
        images = dataset_of(first, dataset)
        protocol = rotation_sites.filled(protocol, first.network)
        sites = rotation_sites.sites(first.network, protocol, globs)
        folder = out or f"runs/{Path(images.name).stem}-{first.network.architecture['model']}-rotated"
        recipe = _recipe(first, protocol)
        checksums = {network.file.seed: _checksum(network) for network in networks}
        return cls(networks, checksums, images, protocol, sites, recipe, Path(folder) / protocol.name, command)

    def path(self, network: Loaded, site: Site, part: Slice) -> Path:
        """Return the path of the network that a slice makes of a network."""
        return self.folder / site.layer / part.arm.name / f"seed{network.file.seed}-repeat{part.repeat}.h5"

    def recipe_at(self, site: Site) -> Recipe:
        """Return the recipe with what is frozen at a site."""
        return replace(self.recipe, frozen=site.frozen)

    def origin(self, network: Loaded, site: Site, part: Slice) -> dict:
        """Return what the file of a slice says that it was made of."""
        return {
            "made": "rotate",
            "of": [network.path],
            "checksum": self.checksums[network.file.seed],
            "layer": site.layer,
            "kind": part.arm.kind,
            "power": part.arm.power,
            "repeat": part.repeat,
            "tap": self.protocol.tap,
            "retrain": self.protocol.retrain,
            "start": self.protocol.start,
            "cumulative": self.protocol.cumulative,
        }


def run(experiment: Experiment, force: bool = False) -> Iterator[dict]:
    """Train what is not there yet; yield a record for each site and arm, and one for each contrast (docs/rotate.md).

    Raises BadInput before anything is trained if what is there was made otherwise (unless `force`), and Interrupted
    when Ctrl-C was pressed and the state is saved.
    """
    training.make_folder(experiment.folder, _bytes(experiment))
    jobs = [
        [_job(experiment, k, network, site, force) for k, network in enumerate(experiment.networks)]
        for site in experiment.sites
    ]
    groups = [group for of_site in jobs for job in of_site for group in job.groups]
    steps = sum(training.steps_left(group, experiment.recipe, experiment.dataset) for group in groups)
    with training.interruptible("the same command goes on") as stop, Progress(steps) as progress:
        compiling.announce(lambda: progress.note("compiling kernels: once after installation, about half a minute"))
        for site, of_site in zip(experiment.sites, jobs, strict=True):
            results: dict[Slice, dict[int, Result]] = {}
            for job in of_site:
                for part, result in _finished(experiment, job, progress, stop).items():
                    results.setdefault(part, {})[job.place] = result
            yield from _records(experiment, site, results)


def start(experiment: Experiment, network: Loaded, site: Site, parts: Sequence[Slice]) -> Run:
    """Return the run of some slices of a network at its beginning.

    What is not trained, and with `continue` the rest too, is the network's; what is drawn anew and the order of images
    are the same in all arms of a repeat.
    """
    seeds = [slice_seed(network, part) for part in parts]
    run = Run.start(site.network, experiment.recipe_at(site), experiment.dataset, seeds)
    retrained = {path.rpartition("/")[0] for path in site.retrained}
    for path, values in network.arrays.items():
        if experiment.protocol.start == CONTINUE or path.rpartition("/")[0] not in retrained:
            run.arrays[path][...] = placement.to_device(values)
    for s, part in enumerate(parts):
        for path, w in rotation_sites.matrices(site, part, seeds[s]).items():
            run.arrays[path][s] = placement.to_device(w)
    return run


def slice_seed(network: Loaded, part: Slice) -> int:
    """Return the seed of a slice: of its M, of what is drawn anew, and of the order of images."""
    return SEEDS * (network.file.seed + 1) + part.repeat


def _require_alike(networks: Sequence[Loaded]) -> None:
    """Raise BadInput for networks that cannot be one experiment."""
    first, seeds = networks[0], {}
    for network in networks:
        file = network.file
        if file.architecture.get("rotated"):
            raise BadInput(f"{network.path}: is a rotated network already; name the one that it was made of")
        if file.status != DONE:
            raise BadInput(f"{network.path}: is {file.status}; rotate networks whose training is done")
        require_finite(network)
        for what in ("architecture", "dataset", "training"):
            if getattr(file, what) != getattr(first.file, what):
                raise BadInput(f"{first.path} and {network.path} differ in their {what}; rotate them one by one")
        if file.seed in seeds:
            raise BadInput(f"{seeds[file.seed]} and {network.path} are both of seed {file.seed}")
        seeds[file.seed] = network.path


def _recipe(network: Loaded, protocol: Protocol) -> Recipe:
    """Return how a network is retrained: as it was trained, but for what the protocol says."""
    trained = Recipe.from_stored(network.file.training)
    said = {name: getattr(protocol, name) for name in ("epochs", "lr", "augment")}
    recipe = replace(trained, clip=protocol.clip, **{name: value for name, value in said.items() if value is not None})
    if protocol.retrain == NOTHING:
        recipe = replace(recipe, epochs=0)
    elif not recipe.epochs:
        raise BadInput(f"{network.path}: was trained for no epochs; say how many to retrain with --epochs")
    return replace(
        recipe, vary=STREAMS, frozen=(), start_from=None, start_weights=(), donor=None, prefix=0, start_only=False
    )


def _checksum(network: Loaded) -> str:
    digest = hashlib.sha256()
    for values in network.arrays.values():
        digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _bytes(experiment: Experiment) -> int:
    """Return about how large the files become that are not there yet."""
    total = 0
    for site in experiment.sites:
        floats = sum(prod(weight.shape) for weight in site.network.weights.values())
        parts = [(network, part) for network in experiment.networks for part in experiment.protocol.slices]
        total += floats * sum(not experiment.path(network, site, part).exists() for network, part in parts)
    return cost.FLOAT_BYTES * total


def _job(experiment: Experiment, place: int, network: Loaded, site: Site, force: bool) -> Job:
    """Look at what is there of one network at one site. Raises BadInput for files that were made otherwise."""
    results, begun = {}, {}
    for part in experiment.protocol.slices:
        path = experiment.path(network, site, part)
        if force or not path.exists():
            continue
        file = load_network(path)
        _require_same(experiment, network, site, part, file)
        if file.status != UNFINISHED:
            results[part] = _result(experiment, file)
        begun[part] = file if file.status == UNFINISHED else replace(file, weights={}, state={})
    size = training.seeds_that_fit(site.network, experiment.recipe)
    return Job(place, network, site, results, list(training.grouped(experiment.protocol.slices, begun, size)))


def _require_same(experiment: Experiment, network: Loaded, site: Site, part: Slice, file: NetworkFile) -> None:
    wanted = {
        "architecture": site.network.architecture,
        "training": experiment.recipe_at(site).stored(),
        "dataset": file.dataset | {"checksum": experiment.dataset.checksum},
        "origin": experiment.origin(network, site, part) | {"of": file.origin.get("of")},
    }
    path = experiment.path(network, site, part)
    training.require_same(path, file, wanted)
    require_arrays(site.network, file, str(path))


def _finished(experiment: Experiment, job: Job, progress: Progress, stop: Callable) -> dict[Slice, Result]:
    """Train what is left of a job, write its files, and return the results of all its slices."""
    results = dict(job.results)
    for group in job.groups:
        if group.files:
            run = checkpoint.resume(group.files, experiment.dataset)
        else:
            run = start(experiment, job.network, job.site, group.members)
        save = partial(_save, experiment, job, group.members, run)
        training.train_to_end(run, save, _every(CHECKPOINT_SECONDS), progress, stop)
        if not run.history:
            _look(run)
        results |= zip(group.members, [_result(experiment, file) for file in save()], strict=True)
    return results


def _every(seconds: float) -> Callable[[Run], bool]:
    """Return what says whether so many seconds have gone since it last said so."""
    last = time.monotonic()

    def due(run: Run) -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < seconds:
            return False
        last = now
        return True

    return due


def _look(run: Run) -> None:
    """Note what networks score that are not trained."""
    for split in ("train", "test"):
        loss, accuracy = run.evaluate(getattr(run.dataset, split))
        run.history[f"{split}_loss"], run.history[f"{split}_accuracy"] = [loss], [accuracy]


def _save(experiment: Experiment, job: Job, parts: Sequence[Slice], run: Run) -> list[NetworkFile]:
    """Write the networks of a run, as far as they have come."""
    files = []
    for s, part in enumerate(parts):
        file = checkpoint.snapshot(run, s, experiment.command)
        file.origin = experiment.origin(job.network, job.site, part)
        path = experiment.path(job.network, job.site, part)
        training.make_folder(path.parent, 0)
        save_network(path, file, force=True)
        files.append(file)
    return files


def _result(experiment: Experiment, file: NetworkFile) -> Result:
    last = {name: float(values[-1]) for name, values in file.history.items()}
    loss = last.get("train_loss", np.nan)
    tried = experiment.protocol.retrain != NOTHING
    failed = tried and not (file.status == DONE and loss < chance_loss(experiment.dataset.train.labels))
    return Result(last.get("test_accuracy", np.nan), last.get("test_loss", np.nan), loss, failed)


def chance_loss(labels: np.ndarray) -> float:
    """Return the loss of the best constant guess, the entropy of the labels: -Σ p log p."""
    p = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(p * np.log(p)).sum())


def _records(experiment: Experiment, site: Site, results: Mapping[Slice, Mapping[int, Result]]) -> Iterator[dict]:
    """Yield the records of a site: every arm over the identity, then orthogonal over the controls."""
    protocol, exact = experiment.protocol, _exact(experiment, site)
    by_arm: dict[Arm, dict[tuple[int, int], Result]] = {arm: {} for arm in protocol.arms}
    for part, of_networks in results.items():
        by_arm[part.arm] |= {(place, part.repeat): result for place, result in of_networks.items()}
    for arm, found in by_arm.items():
        yield _record(experiment, site, arm, found, IDENTITY, by_arm[Arm(IDENTITY)]) | exact[arm]
    turned = [arm for arm in protocol.arms if arm.kind == ORTHOGONAL]
    for control in CONTROLS:
        for arm in turned:
            if Arm(control) in by_arm:
                yield _record(experiment, site, arm, by_arm[arm], control, by_arm[Arm(control)]) | exact[arm]


def _record(
    experiment: Experiment,
    site: Site,
    arm: Arm,
    found: Mapping[tuple[int, int], Result],
    over: str,
    reference: Mapping[tuple[int, int], Result],
) -> dict:
    protocol, architecture = experiment.protocol, site.network.architecture
    histories = [network.file.history.get("test_accuracy", ()) for network in experiment.networks]
    good = {run: result for run, result in found.items() if not result.failed}
    pairs = [run for run in good if not reference[run].failed]
    record = {
        "layer": site.layer,
        "kind": arm.kind,
        "over": over,
        "power": arm.power,
        "tap": protocol.tap,
        "retrain": protocol.retrain,
        "start": protocol.start,
        "cumulative": protocol.cumulative,
        "model": architecture["model"],
        "activation": architecture["activation"],
        "units": site.units,
        "parameters": site.parameters,
        "networks": len(experiment.networks),
        "repeats": protocol.repeats,
        "epochs": experiment.recipe.epochs,
        "trained_epochs": experiment.networks[0].file.training.get("epochs"),
        "optimizer": experiment.recipe.optimizer,
        "pairs": len(pairs),
        "failed": len(found) - len(good),
        "base_accuracy": _mean(values[-1] for values in histories if len(values)),
        **{name: _mean(getattr(result, name) for result in good.values()) for name in MEASURED},
    }
    for name, (field, sign) in PENALTIES.items():
        values = {run: sign * (getattr(good[run], field) - getattr(reference[run], field)) for run in pairs}
        record |= statistics.over_runs(values).fields(name)
    return record | _log_losses(len(experiment.networks), good, reference, pairs)


def _log_losses(
    networks: int,
    found: Mapping[tuple[int, int], Result],
    reference: Mapping[tuple[int, int], Result],
    pairs: Sequence[tuple[int, int]],
) -> dict:
    """Return ln(training loss / that of the reference): the mean and its interval, and the mean of each network."""
    losses = {run: (found[run].train_loss, reference[run].train_loss) for run in pairs}
    ratios = {run: float(np.log(loss / other)) for run, (loss, other) in losses.items() if min(loss, other) > 0}
    of_network = statistics.means_of_networks(ratios)
    fields = statistics.over_runs(ratios).fields("log_loss_ratio")
    return fields | {"log_loss_ratios": [of_network.get(place) for place in range(networks)]}


def _exact(experiment: Experiment, site: Site) -> dict[Arm, dict[str, float | None]]:
    """Return for each arm what needs no training: what folding M away leaves, and the reconstruction error."""
    residuals: dict[Arm, list[float | None]] = {arm: [] for arm in experiment.protocol.arms}
    errors: dict[Arm, list[float]] = {arm: [] for arm in experiment.protocol.arms}
    rectified = experiment.protocol.tap == POST and site.network.architecture["activation"] == "relu"
    for network in experiment.networks:
        rows = range(min(SHOWN, len(experiment.dataset.test.labels)))
        images, _ = probe_batch(experiment.dataset.test, network.standard, rows)
        tap = network.network.tap(site.layer, POST)
        logits, kept = predict(network.network, network.arrays, images, keep=[tap])
        for part in experiment.protocol.slices:
            w = rotation_sites.matrices(site, part, slice_seed(network, part))
            arrays = network.arrays | {path: values[None] for path, values in w.items()}
            upstream = experiment.protocol.retrain == UPSTREAM
            residuals[part.arm].append(fold_residual(site, arrays, upstream, images, logits))
            if rectified:
                m = w[f"{site.layer}/rotation/w"].T.astype(np.float64)
                errors[part.arm] += list(random_maps.reconstruction_errors([kept[tap]], m[None]))
    return {
        arm: {
            "fold_residual": None if None in residuals[arm] else max(residuals[arm]),
            "reconstruction_error": float(np.mean(errors[arm])) if rectified else None,
        }
        for arm in residuals
    }


def fold_residual(
    site: Site, arrays: Mapping[str, np.ndarray], upstream: bool, images: np.ndarray, logits: np.ndarray
) -> float | None:
    """Return how far a network in which M is folded away is from the untouched one, whose logits are given.

    It is the largest difference of a logit over the largest logit. None where M cannot be folded (`rotation.folded`),
    or not into what is retrained alone.
    """
    try:
        changed = rotation_sites.folded(site.network, arrays, upstream)
    except BadInput:
        return None
    touched = {path.rpartition("/")[0] for path in arrays if not np.array_equal(changed[path], arrays[path])}
    if site.retrained and touched - {path.rpartition("/")[0] for path in site.retrained}:
        return None
    return float(np.abs(predict(site.network, changed, images)[0] - logits).max() / np.abs(logits).max())


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None
