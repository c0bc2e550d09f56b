"""The rotation experiment (docs/rotate.md): train networks around a fixed map, and set the arms beside the identity."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from basiscli.device import placement
from basiscli.experiments import rotation_sites, training_loop
from basiscli.experiments.groups import train_groups
from basiscli.experiments.rotation_experiment import Experiment, Result, chance_loss, slice_seed
from basiscli.experiments.rotation_records import site_records
from basiscli.experiments.rotation_sites import CONTINUE, NOTHING, Site, Slice
from basiscli.files import checkpoint, kinds
from basiscli.files.networks import (
    DONE,
    UNFINISHED,
    Loaded,
    NetworkFile,
    load_network,
    require_arrays,
    save_network,
)
from basiscli.kernels.cpu import compiling
from basiscli.nn import cost
from basiscli.training.progress import Progress
from basiscli.training.run import Run

# Seconds between two checkpoints, at least: a run of short epochs does not write files after each epoch.
CHECKPOINT_SECONDS = 60


@dataclass(frozen=True)
class RotationJob:
    """One network at one site: the results of finished slices, and groups of the other slices."""

    place: int
    network: Loaded
    site: Site
    results: Mapping[Slice, Result]
    groups: Sequence[training_loop.SeedGroup]


def rotate_networks(experiment: Experiment, force: bool = False) -> Iterator[dict]:
    """Train missing networks; yield a record for each site and arm, and one for each contrast (docs/rotate.md).

    Raises BadInput before training if files that exist were made otherwise (unless `force`). Raises Interrupted after
    Ctrl-C, when the state is saved.
    """
    training_loop.make_folder(experiment.folder, _bytes(experiment))
    # Held from the first look at the files on: no record is about a file that another program wrote since.
    with training_loop.alone_in(experiment.folder):
        jobs = [
            [_job(experiment, k, network, site, force) for k, network in enumerate(experiment.networks)]
            for site in experiment.sites
        ]
        groups = [group for of_site in jobs for job in of_site for group in job.groups]
        steps = sum(training_loop.steps_left(group, experiment.recipe, experiment.dataset) for group in groups)
        with training_loop.interruptible("the same command goes on") as stop, Progress(steps) as progress:
            compiling.announce(lambda: progress.note("compiling kernels: once after installation, about half a minute"))
            for site, of_site in zip(experiment.sites, jobs, strict=True):
                results: dict[Slice, dict[int, Result]] = {}
                for job in of_site:
                    for part, result in _finished(experiment, job, progress, stop).items():
                        results.setdefault(part, {})[job.place] = result
                yield from site_records(experiment, site, results)


def start(experiment: Experiment, network: Loaded, site: Site, parts: Sequence[Slice]) -> Run:
    """Return the run of some slices of a network at its beginning.

    Arrays that are not trained are those of the network; with `continue` the trained arrays start from it too. New
    initial weights and the order of images are the same in all arms of a repeat.
    """
    seeds = [slice_seed(network, part) for part in parts]
    run = Run.start(site.network, experiment.recipe_at(site), experiment.dataset, seeds, standard=network.standard)
    retrained = {path.rpartition("/")[0] for path in site.retrained}
    for path, values in network.arrays.items():
        if experiment.protocol.start == CONTINUE or path.rpartition("/")[0] not in retrained:
            run.arrays[path][...] = placement.to_device(values)
    for s, part in enumerate(parts):
        for path, w in rotation_sites.matrices(site, part, seeds[s]).items():
            run.arrays[path][s] = placement.to_device(w)
    return run


def _bytes(experiment: Experiment) -> int:
    """Return about how large the missing files become, in bytes."""
    total = 0
    for site in experiment.sites:
        floats = sum(prod(weight.shape) for weight in site.network.weights.values())
        parts = [(network, part) for network in experiment.networks for part in experiment.protocol.slices]
        total += floats * sum(not experiment.path(network, site, part).exists() for network, part in parts)
    return cost.FLOAT_BYTES * total


def _job(experiment: Experiment, place: int, network: Loaded, site: Site, force: bool) -> RotationJob:
    """Return the job of one network at one site. Raises BadInput for files that were made otherwise."""
    results, begun = {}, {}
    for part in experiment.protocol.slices:
        path = experiment.path(network, site, part)
        if not path.exists():
            continue
        if force:
            kinds.require_target(path, kinds.NETWORK, force)
            continue
        file = load_network(path)
        _require_same(experiment, network, site, part, file)
        if file.status != UNFINISHED:
            results[part] = _result(experiment, file)
        begun[part] = file if file.status == UNFINISHED else replace(file, weights={}, state={})
    size = training_loop.seeds_that_fit(site.network, experiment.recipe)
    return RotationJob(
        place, network, site, results, list(training_loop.grouped(experiment.protocol.slices, begun, size))
    )


def _require_same(experiment: Experiment, network: Loaded, site: Site, part: Slice, file: NetworkFile) -> None:
    wanted = {
        "architecture": site.network.architecture,
        "training": experiment.recipe_at(site).stored(),
        "dataset": file.dataset | {"checksum": experiment.dataset.checksum},
        "origin": experiment.origin(network, site, part) | {"of": file.origin.get("of")},
    }
    path = experiment.path(network, site, part)
    training_loop.require_same(path, file, wanted)
    require_arrays(site.network, file, str(path))


def _finished(experiment: Experiment, job: RotationJob, progress: Progress, stop: Callable) -> dict[Slice, Result]:
    """Train the unfinished groups of a job, write its files, and return the results of all its slices."""
    results = dict(job.results)

    def train(group: training_loop.SeedGroup) -> list[NetworkFile]:
        if group.files:
            run = checkpoint.resume(group.files, experiment.dataset)
        else:
            run = start(experiment, job.network, job.site, group.members)
        save = partial(_save, experiment, job, group.members, run)
        training_loop.train_to_end(run, save, training_loop.due_after(1, CHECKPOINT_SECONDS), progress, stop)
        if not run.history:
            _evaluate_untrained(run)
        return save()

    for group, files in train_groups(job.groups, train):
        results |= zip(group.members, [_result(experiment, file) for file in files], strict=True)
    return results


def _evaluate_untrained(run: Run) -> None:
    """Put the scores of networks that are not trained into the history of a run."""
    for split in ("train", "test"):
        loss, accuracy = run.evaluate(getattr(run.dataset, split))
        run.history[f"{split}_loss"], run.history[f"{split}_accuracy"] = [loss], [accuracy]


def _save(experiment: Experiment, job: RotationJob, parts: Sequence[Slice], run: Run) -> list[NetworkFile]:
    """Write the present state of the networks of a run."""
    files = []
    for s, part in enumerate(parts):
        file = checkpoint.snapshot(run, s, experiment.command)
        file.origin = experiment.origin(job.network, job.site, part)
        file.imported = job.network.file.imported
        path = experiment.path(job.network, job.site, part)
        training_loop.make_folder(path.parent, 0)
        save_network(path, file, force=True)
        files.append(file)
    return files


def _result(experiment: Experiment, file: NetworkFile) -> Result:
    last = {name: float(values[-1]) for name, values in file.history.items()}
    loss = last.get("train_loss", np.nan)
    tried = experiment.protocol.retrain != NOTHING
    failed = tried and not (file.status == DONE and loss < chance_loss(experiment.dataset.train.labels))
    return Result(last.get("test_accuracy", np.nan), last.get("test_loss", np.nan), loss, failed)
