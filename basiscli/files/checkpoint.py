"""Checkpoints: the file of each seed of a run, the run that goes on from such files, and the prefix of a donor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files.networks import (
    DIVERGED,
    DONE,
    UNFINISHED,
    NetworkFile,
    difference,
    load,
    require_arrays,
    standardisation,
    versions,
)
from basiscli.nn import models, weights
from basiscli.nn.graph import Network
from basiscli.training import optim
from basiscli.training.images import Standardisation
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run


def snapshot(run: Run, s: int, command: str) -> NetworkFile:
    """Return the file of the s-th network of a run. It holds optimiser state only while training is unfinished."""
    status = DIVERGED if not run.alive[s] else DONE if run.epoch >= run.recipe.epochs else UNFINISHED
    slots = {} if status == DONE else {slot: run.layout.views(flat) for slot, flat in run.optimizer.items()}
    arrays = {path: placement.to_host(values[s]) for path, values in run.arrays.items()}
    return NetworkFile(
        architecture=run.network.architecture,
        training=run.recipe.stored(),
        dataset={
            "name": run.dataset.name,
            "checksum": run.dataset.checksum,
            "mean": run.standard.mean.tolist(),
            "inverse_deviation": run.standard.inverse.tolist(),
            **({"channels": run.dataset.channels} if run.dataset.channels else {}),
        },
        seed=run.seeds[s],
        status=status,
        command=command,
        versions=versions(),
        weights={path: arrays[path] for path in run.network.trained},
        state={path: arrays[path] for path in run.network.weights if path not in run.network.trained},
        optimizer={
            slot: {path: placement.to_host(views[path][s]) for path in run.layout.trained_paths()}
            for slot, views in slots.items()
        },
        history={name: np.array([values[s] for values in rows]) for name, rows in run.history.items()},
        position={
            "epoch": run.epoch,
            "step": run.step,
            "loss": float(run.totals.loss[s]),
            "hits": int(run.totals.hits[s]),
            "samples": run.totals.samples,
        },
    )


def resume(files: Sequence[NetworkFile], dataset: Dataset) -> Run:
    """Return the run that goes on from files of one recipe, all at the same epoch and step.

    Its final weights are bitwise those of a run without interruption. Raises BadInput for files that lack a weight.
    """
    first = files[0]
    network, recipe = models.build(first.architecture), Recipe.from_stored(first.training)
    seeds = [file.seed for file in files]
    run = Run.start(network, recipe, dataset, seeds, standard=standardisation(first, f"seed {first.seed}"))
    for s, file in enumerate(files):
        require_arrays(network, file, f"seed {file.seed}")
        for path, values in (file.weights | file.state).items():
            run.arrays[path][s] = placement.to_device(values)
        for slot in optim.SLOTS[recipe.optimizer]:
            for path, view in run.layout.views(run.optimizer[slot]).items():
                if path in file.optimizer.get(slot, {}):
                    view[s] = placement.to_device(file.optimizer[slot][path])
        run.totals.loss[s], run.totals.hits[s] = file.position["loss"], file.position["hits"]
    run.totals.samples = first.position["samples"]
    run.epoch, run.step = first.position["epoch"], first.position["step"]
    run.history = {name: list(np.stack([file.history[name] for file in files], 1)) for name in first.history}
    return run


@dataclass(frozen=True)
class Prefix:
    """The arrays of the first layers of a donor, state included, without seed axis, and their SHA-256 in hex."""

    arrays: dict[str, np.ndarray]
    checksum: str


def load_prefix(path: str | Path, network: Network, dataset: Dataset, layers: int) -> Prefix:
    """Return the first `layers` layers of a donor, for training networks like `network` on a data set.

    Raises BadInput if the donor has another architecture, was trained on other data or diverged, and if the network has
    fewer layers.
    """
    paths = weights.prefix(network, layers)
    donor = load(path)
    if different := difference(donor.network.architecture, network.architecture):
        raise BadInput(f"{path}: a donor of another architecture ({different})")
    if donor.file.dataset.get("checksum") != dataset.checksum:
        raise BadInput(f"{path}: a donor trained on {donor.file.dataset.get('name')}, which is not this {dataset.name}")
    require_standard(donor.file, dataset, str(path))
    if donor.file.status == DIVERGED:
        raise BadInput(f"{path}: a donor that diverged in training; take another, or train it with a smaller `lr`")
    arrays = {name: donor.arrays[name][0] for name in paths}
    return Prefix(arrays, weights.checksum(arrays.values()))


def require_standard(donor: NetworkFile, dataset: Dataset, path: str) -> None:
    """Raise BadInput if an imported donor saw images standardised otherwise than training does."""
    own, ours = standardisation(donor, path), Standardisation.of(dataset.train.images)
    if donor.imported and not (np.allclose(own.mean, ours.mean, 1e-3) and np.allclose(own.inverse, ours.inverse, 1e-3)):
        raise BadInput(
            f"{path}: an imported network, whose images were standardised otherwise than training does: its weights "
            "would read other numbers (docs/import.md)"
        )
