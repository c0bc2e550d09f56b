"""Networks in a program: load or train them, run them on images, permute their units, save them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from basiscli.alignment import matching
from basiscli.analysis.measures import on_host, require_whole
from basiscli.api.tables import Table
from basiscli.api.training_options import checked
from basiscli.data import Dataset, Split
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.experiments.training import TrainingJob, train_networks
from basiscli.files import activations, kinds
from basiscli.files.networks import Loaded, require_finite, save_network
from basiscli.files.networks import load as load_file
from basiscli.files.schema import TAPS
from basiscli.names import in_html
from basiscli.nn import cost
from basiscli.nn.graph import predict
from basiscli.nn.unit_groups import unit_groups
from basiscli.rng import generator
from basiscli.training.images import probe_batch

# Random images on which a permuted network must give the same logits.
PROBED = 64


@dataclass(frozen=True, eq=False, repr=False)
class TrainedNetwork:
    """A network and its weights: the result of `load` and `train`. Methods that change it return another network.

    path: the file of the network, None if it has no file.

    >>> import numpy as np, basiscli
    >>> (network,) = basiscli.train("digits", hidden=(16, 8), epochs=1)
    >>> network
    TrainedNetwork(mlp, hidden1 16, hidden2 8, seed 0)
    >>> images = np.zeros((3, 8, 8), np.uint8)
    >>> network.predict(images).shape, network.activations("hidden2", images).shape
    ((3, 10), (3, 8))
    >>> network.weights["hidden1/w"].shape
    (64, 16)
    """

    path: str | None
    _loaded: Loaded

    @property
    def architecture(self) -> dict[str, Any]:
        """The architecture: model, input_shape, classes, and the options of the model."""
        return dict(self._loaded.network.architecture)

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self._loaded.file.seed

    @property
    def status(self) -> str:
        """How training went: "done", "diverged" or "unfinished"."""
        return self._loaded.file.status

    @property
    def history(self) -> dict[str, NDArray[Any]]:
        """Losses and accuracies, (epochs,) each: train_loss, train_accuracy, test_loss, test_accuracy."""
        return dict(self._loaded.file.history)

    @property
    def layers(self) -> dict[str, int]:
        """The number of units of each hidden layer, in order."""
        return {name: layer.units for name, layer in self._loaded.network.layers.items()}

    @property
    def groups(self) -> dict[str, int]:
        """The number of units of each group, by its first layer; one permutation moves a group in all its layers."""
        return dict(unit_groups(self._loaded.network).groups)

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Every array by its path, such as "hidden1/w", with the statistics of BatchNorm; the arrays are read-only."""
        arrays = {path: values[0] for path, values in self._loaded.arrays.items()}
        for values in arrays.values():
            values.flags.writeable = False
        return arrays

    def predict(self, images: ArrayLike) -> NDArray[np.float32]:
        """Return the logits (N, classes) of images (N, H, W) or (N, H, W, C), uint8 or floating, as in the data set.

        Images are standardised as in training. Raises BadInput for images of another shape or type.
        """
        shown, loaded = self._split(images), self._loaded
        count, size = len(shown.labels), cost.evaluated_at_once(loaded.network)
        batches = (
            probe_batch(shown, loaded.standard, range(start, min(start + size, count)))[0]
            for start in range(0, count, size)
        )
        logits: NDArray[np.float32]
        logits = np.concatenate([predict(loaded.network, loaded.arrays, batch)[0][0] for batch in batches])
        return logits

    def activations(self, layer: str, images: ArrayLike, *, tap: str = "post") -> NDArray[np.float32]:
        """Return the activations (N, ..., units) of a layer, after its nonlinearity (tap="post") or before ("pre").

        images: as of `predict`. Raises BadInput for an unknown layer or tap, and for other images.
        """
        if layer not in self.layers:
            raise BadInput(f"`layer` is {layer!r}: there are {', '.join(self.layers)}")
        if tap not in TAPS:
            raise BadInput(f"`tap` is {tap!r}: choose {' or '.join(map(repr, TAPS))}")
        shown, loaded = self._split(images), self._loaded
        dataset = Dataset("images", shown, shown, loaded.network.architecture["classes"], "")
        source = activations.of_network(
            loaded.path, loaded.network, loaded.arrays, loaded.standard, dataset, split="test", tap=tap
        )
        values: NDArray[np.float32] = placement.to_host(source.read([layer], 0, len(shown.labels))[layer])
        return values

    def permute(self, permutations: Mapping[str, ArrayLike]) -> "TrainedNetwork":
        """Return the network with the units of groups in another order; it computes the same function.

        permutations: (units,) by group (see `groups`); unit i of the new network is unit p[i] of this one. Other groups
        do not change. Raises BadInput if an array is no permutation of a group, or if a logit of random images changes.
        """
        loaded = self._loaded
        moves = {group: np.asarray(p) for group, p in permutations.items()}
        for group, p in moves.items():
            if group not in self.groups:
                raise BadInput(f"`permutations`: no group {group!r}; there are {', '.join(self.groups)}")
            if p.shape != (self.groups[group],) or p.dtype.kind not in "iu":
                raise BadInput(f"`permutations`: {group!r} has the shape {p.shape}: give {self.groups[group]} numbers")
        shape = loaded.network.architecture["input_shape"]
        images = generator(0, "permute").standard_normal((1, PROBED, *shape)).astype(np.float32)
        origin = {"made": "permute", "of": [loaded.path], "groups": list(moves)}
        moved, _ = matching.apply(loaded, moves, images, origin)
        return TrainedNetwork(None, moved)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the network into a file that `load` and every command read; whole or not at all.

        Raises BadInput if the file exists, unless `force`, or cannot be written.
        """
        kinds.require_target(Path(path), kinds.NETWORK, force)
        save_network(path, self._loaded.file, force)

    def table(self) -> Table:
        """Return a row for each hidden layer: its units, and the shape of its activations."""
        shapes = {node.name: node.shape for node in self._loaded.network.nodes}
        return Table(
            tuple(
                {"layer": name, "units": layer.units, "activations": " x ".join(map(str, shapes[layer.post]))}
                for name, layer in self._loaded.network.layers.items()
            )
        )

    def __repr__(self) -> str:
        layers = [f"{name} {units}" for name, units in self.layers.items()]
        shown = layers if len(layers) < 6 else [*layers[:2], "...", layers[-1]]
        return f"TrainedNetwork({', '.join([self.architecture['model'], *shown, f'seed {self.seed}'])})"

    def _repr_html_(self) -> str:
        return f"<p>{in_html(repr(self))}</p>{self.table()._repr_html_()}"

    def _split(self, images: ArrayLike) -> Split:
        """Return images as a split without labels. Raises BadInput for another shape or type than the network's."""
        shown, wanted = on_host(images), tuple(self._loaded.network.architecture["input_shape"])
        if shown.ndim == 3:
            shown = shown[..., None]
        if shown.ndim != 4 or shown.shape[1:] != wanted or not len(shown):
            raise BadInput(f"`images` has the shape {np.shape(images)}: give (N, {', '.join(map(str, wanted))})")
        if shown.dtype.kind == "f":
            shown = shown.astype(np.float32, copy=False)
        elif shown.dtype != np.uint8:
            raise BadInput(f"`images` holds {shown.dtype}: give uint8 or floating values")
        return Split(np.ascontiguousarray(shown), np.zeros(len(shown), np.int64))


def load(path: str | Path) -> TrainedNetwork:
    """Return the network in a file that `basiscli train` (or any other command) or `TrainedNetwork.save` wrote.

    Raises BadInput if the file is missing, is no network, is damaged, or does not fit its architecture.

    >>> import basiscli
    >>> (network,) = basiscli.train("digits", hidden=(16,), epochs=1)
    >>> network.save("network.h5", force=True)
    >>> basiscli.load("network.h5").path
    'network.h5'
    """
    return TrainedNetwork(str(path), load_file(path))


def train(
    dataset: str = "digits",
    *,
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    **options: Any,
) -> list[TrainedNetwork]:
    """Train networks that differ in their seed, all at once, and return them in the order of the seeds.

    dataset: a name (`basiscli data list`) or the path of an HDF5 or .npz file (docs/data.md)
    seeds:   how many (3 is 0, 1, 2), or which
    out:     the folder that keeps the files, seed0.h5 and so on; None keeps no file
    options: those of `basiscli train` with underscores (docs/commands.md), with the same defaults: model="resnet",
             depth=20, width=0.5, hidden=(64, 32), epochs=10, optimizer="adamw", lr=0.001, augment="crop,flip",
             freeze=("hidden1/*",), keep="log" (also the networks after 0, 1, 2, 4, ... epochs, in files of their
             own: seed0-epoch4.h5), resume=True, ...

    The same call gives bitwise the same weights as the command, on the same machine. A network that diverged is
    returned, with the status "diverged". Raises BadInput for options that do not fit, before anything is trained.

    >>> import basiscli
    >>> networks = basiscli.train("digits", seeds=2, hidden=(16,), epochs=1)
    >>> [network.seed for network in networks]
    [0, 1]
    >>> basiscli.train("digits", colour="red")
    Traceback (most recent call last):
    basiscli.errors.BadInput: `colour`: no option of training; those of `basiscli train` are in docs/commands.md
    """
    chosen = _seeds(seeds)
    if out is not None:
        paths = _trained(dataset, chosen, str(out), options)
        return [load(path) for path in paths]
    if options.get("keep"):
        raise BadInput("`keep` writes networks into files of their own: give `out`, too")
    with TemporaryDirectory() as folder:
        paths = _trained(dataset, chosen, folder, {"activations": False} | options)
        return [_in_memory(load_file(path)) for path in paths]


def loaded_of(network: TrainedNetwork | str | Path, name: str) -> Loaded:
    """Return a network, or the one in a file, for the functions below. Raises BadInput with the parameter's name."""
    if isinstance(network, TrainedNetwork):
        require_finite(network._loaded)
        return network._loaded
    if isinstance(network, str | Path):
        return load_file(network)
    raise BadInput(f"{name} is a {type(network).__name__}: give a TrainedNetwork or the path of a file")


def _trained(dataset: str, seeds: tuple[int, ...], out: str, options: Mapping[str, Any]) -> list[str]:
    """Train networks into a folder, and return the paths of their files."""
    chosen = checked(options)
    given = ", ".join(f"{name}={value!r}" for name, value in {"seeds": seeds, **options}.items())
    command = f"basiscli.train({dataset!r}, {given})"
    job = TrainingJob(**{"command": command, **chosen, "dataset": str(dataset), "seeds": seeds, "out": out})
    job.require_consistent()
    by_seed = {record["seed"]: record["path"] for record in train_networks(job)}
    return [by_seed[seed] for seed in seeds]


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer):
        require_whole("seeds", seeds, 1)
        return tuple(range(seeds))
    chosen = tuple(seeds)
    for seed in chosen:
        require_whole("seeds", seed, 0)
    if not chosen or len(set(chosen)) < len(chosen):
        raise BadInput(f"`seeds` is {seeds!r}: give seeds from 0 on, each once")
    return tuple(map(int, chosen))


def _in_memory(loaded: Loaded) -> TrainedNetwork:
    """Return a network whose file will be deleted."""
    return TrainedNetwork(None, replace(loaded, path=f"the network of seed {loaded.file.seed}"))
