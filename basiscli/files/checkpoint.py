"""Between runs and files: what a run saves of a seed, a run that goes on from files, a network ready to be used."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files.networks import DIVERGED, DONE, UNFINISHED, NetworkFile, load, require_arrays, versions
from basiscli.nn import models, weights
from basiscli.nn.graph import Network
from basiscli.training import optim
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run


def snapshot(run: Run, s: int, command: str) -> NetworkFile:
    """Return what a file holds of the s-th network of a run; optimiser state only while it is needed to go on."""
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
    """Return the run that goes on from files of one recipe that stand at the same epoch and step.

    It ends in bitwise the weights of a run that was never interrupted. Raises BadInput for files that lack a weight.
    """
    first = files[0]
    network, recipe = models.build(first.architecture), Recipe.from_stored(first.training)
    seeds = [file.seed for file in files]
    run = Run.start(network, recipe, dataset, seeds)
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
    """The arrays of the first layers of a donor, state included, and their SHA-256 in hex."""

    arrays: dict[str, np.ndarray]
    checksum: str


def load_prefix(path: str | Path, network: Network, dataset: Dataset, layers: int) -> Prefix:
    """Return the first layers of a donor for networks like `network`, to be trained on a data set.

    Raises BadInput if the donor has another architecture or was trained on other data, if it diverged, or if there
    are not so many layers.
    """
    paths = weights.prefix(network, layers)
    donor = load(path)
    if donor.network.architecture != network.architecture:
        theirs, ours = donor.network.architecture, network.architecture
        name = next(key for key in ours | theirs if theirs.get(key) != ours.get(key))
        raise BadInput(f"{path}: a donor of another architecture ({name} {theirs.get(name)}, not {ours.get(name)})")
    if donor.file.dataset.get("checksum") != dataset.checksum:
        raise BadInput(f"{path}: a donor trained on {donor.file.dataset.get('name')}, which is not this {dataset.name}")
    if donor.file.status == DIVERGED:
        raise BadInput(f"{path}: a donor that diverged in training; take another, or train it with a smaller --lr")
    arrays = {name: donor.arrays[name][0] for name in paths}
    digest = hashlib.sha256()
    for values in arrays.values():
        digest.update(np.ascontiguousarray(values).data)
    return Prefix(arrays, digest.hexdigest())
