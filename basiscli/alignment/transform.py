"""A network in another basis, written to a file, with the proof that its function did not change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from basiscli import names
from basiscli.alignment.same_function import TOLERANCE, logit_difference
from basiscli.analysis import random_maps
from basiscli.errors import BadInput
from basiscli.files import networks
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import DONE, Loaded, save_network
from basiscli.nn.graph import Network, predict
from basiscli.nn.unit_groups import UnitGroups, permute_units, rotate_units, unit_groups
from basiscli.rng import generator
from basiscli.training.images import probe_batch

PERMUTE, ROTATE = "permute", "rotate"
# Test images on which the old and the new network are compared.
SHOWN = 1000


@dataclass(frozen=True)
class Change:
    """A change of basis: permute or rotate the units of the layers that patterns choose, drawn from a seed."""

    how: str
    seed: int
    globs: Sequence[str]


def transform_network(
    path: str, change: Change, out: Path, dataset: str | None, command: str, force: bool = False
) -> dict:
    """Write the changed network and return its record.

    largest_difference is the largest change of a logit, over the largest logit, on the first SHOWN test images; exact
    is whether it is within TOLERANCE. Raises BadInput for an unfinished or broken network, a glob without a match, a
    rotation of units that a normalisation scales, and a permuted network that computes another function.
    """
    loaded = networks.load(path)
    if loaded.file.status != DONE:
        raise BadInput(f"{path}: is {loaded.file.status}; change networks whose training is done")
    networks.require_finite(loaded)
    images = dataset_of(loaded, dataset)
    shown, labels = probe_batch(images.test, loaded.standard, range(min(SHOWN, len(images.test.labels))))
    groups = _groups(unit_groups(loaded.network), loaded.network, change.globs)
    arrays = _changed(loaded, change, groups)
    before, after = (predict(loaded.network, values, shown)[0] for values in (loaded.arrays, arrays))
    difference = logit_difference(before, after)
    exact = difference <= TOLERANCE
    if change.how == PERMUTE and not exact:
        raise BadInput(f"{path}: its permuted logits differ by {difference:.1e} of the largest; nothing was written")
    _write(loaded, change, arrays, out, exact, command, force)
    return {
        "path": str(out),
        "network": path,
        "how": change.how,
        "seed": change.seed,
        "groups": ",".join(groups),
        "largest_difference": difference,
        "exact": exact,
        "accuracy_before": float((before.argmax(-1) == labels).mean()),
        "accuracy": float((after.argmax(-1) == labels).mean()),
    }


def _groups(unit_groups_of: UnitGroups, network: Network, globs: Sequence[str]) -> list[str]:
    """Return the groups of all layers that patterns choose (`names.select`)."""
    layers = names.select(
        network.layers, globs, lambda glob: f"`layer` {glob}: no such layer; there are {', '.join(network.layers)}"
    )
    groups = dict.fromkeys(part.group for layer in layers for part in unit_groups_of.layers[layer])
    named = [group for group in groups if group is not None]
    if not named:
        raise BadInput(f"`layer` {' '.join(globs)}: these units are tied to the input or the logits")
    return named


def _changed(loaded: Loaded, change: Change, groups: Sequence[str]) -> dict[str, np.ndarray]:
    unit_groups_of = unit_groups(loaded.network)
    streams = {group: generator(change.seed, "transform", group) for group in groups}
    if change.how == PERMUTE:
        drawn = {group: rng.permutation(unit_groups_of.groups[group])[None] for group, rng in streams.items()}
        return permute_units(unit_groups_of, loaded.arrays, drawn)
    drawn = {group: random_maps.haar(rng, unit_groups_of.groups[group])[None] for group, rng in streams.items()}
    return rotate_units(unit_groups_of, loaded.arrays, drawn)


def _write(loaded: Loaded, change: Change, arrays: dict, out: Path, exact: bool, command: str, force: bool) -> None:
    """Write the file, without the training history if the new network computes another function."""
    origin = {"made": "transform", "of": [loaded.path], change.how: change.seed, "layers": list(change.globs)}
    changed = replace(
        loaded.file,
        weights={path: arrays[path][0] for path in loaded.file.weights},
        state={path: arrays[path][0] for path in loaded.file.state},
        history=loaded.file.history if exact else {},
        origin=origin,
        command=command,
    )
    save_network(out, changed, force)
