"""The parts of the rotation experiment: networks, sites, the recipe, the places of files (docs/rotate.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from basiscli.data import Dataset
from basiscli.errors import BadInput
from basiscli.experiments import rotation_sites
from basiscli.experiments.rotation_sites import NOTHING, Protocol, Site, Slice
from basiscli.files.datasets import dataset_of
from basiscli.files.networks import (
    DONE,
    Loaded,
    load,
    require_finite,
)
from basiscli.nn import weights
from basiscli.training.recipe import STREAMS, Recipe

# Slices of repeat r of a network with seed s have the seed SEEDS (s + 1) + r, which no network below seed 1000 has.
SEEDS = 1000


@dataclass(frozen=True)
class Result:
    """The result of one slice of one network. failed: its training loss is not below that of a constant guess."""

    test_accuracy: float
    test_loss: float
    train_loss: float
    failed: bool


@dataclass(frozen=True)
class Experiment:
    """Networks of one architecture, trained on one data set; the protocol, the sites, and the folder.

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
        checksums = {network.file.seed: weights.checksum(network.arrays.values()) for network in networks}
        return cls(networks, checksums, images, protocol, sites, recipe, Path(folder) / protocol.name, command)

    def path(self, network: Loaded, site: Site, part: Slice) -> Path:
        """Return the path of the network that a slice of a network gives."""
        return self.folder / site.layer / part.arm.name / f"seed{network.file.seed}-repeat{part.repeat}.h5"

    def recipe_at(self, site: Site) -> Recipe:
        """Return the recipe with the arrays that are frozen at a site."""
        return replace(self.recipe, frozen=site.frozen)

    def origin(self, network: Loaded, site: Site, part: Slice) -> dict:
        """Return the origin that the file of a slice states."""
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


def slice_seed(network: Loaded, part: Slice) -> int:
    """Return the seed of a slice: of its M, of new initial weights, and of the order of images."""
    return SEEDS * (network.file.seed + 1) + part.repeat


def _require_alike(networks: Sequence[Loaded]) -> None:
    """Raise BadInput for networks that cannot be one experiment."""
    first = networks[0]
    seeds: dict[int, str] = {}
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
    """Return the recipe of retraining: that of the network, with the changes of the protocol."""
    trained = Recipe.from_stored(network.file.training)
    said = {name: getattr(protocol, name) for name in ("epochs", "lr", "augment")}
    if network.file.imported and protocol.retrain != NOTHING and None in (protocol.epochs, protocol.lr):
        raise BadInput(f"{network.path}: an imported network has no recipe; say how to retrain, with `epochs` and `lr`")
    recipe = replace(trained, clip=protocol.clip, **{name: value for name, value in said.items() if value is not None})
    if protocol.retrain == NOTHING:
        recipe = replace(recipe, epochs=0)
    elif not recipe.epochs:
        raise BadInput(f"{network.path}: was trained for no epochs; say how many to retrain with `epochs`")
    return replace(
        recipe, vary=STREAMS, frozen=(), start_from=None, start_weights=(), donor=None, prefix=0, start_only=False
    )


def chance_loss(labels: np.ndarray) -> float:
    """Return the loss of the best constant guess, the entropy of the labels: -Σ p log p."""
    p = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(p * np.log(p)).sum())
