"""Network files: read, check and write them."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from basiscli import __version__
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files.hdf5 import NETWORK, Writer, open_reader, reading, writing
from basiscli.nn import models, weights
from basiscli.nn.graph import Network
from basiscli.notes import ONCE, log
from basiscli.training.images import Standardisation
from basiscli.training.recipe import Recipe

DONE, DIVERGED, UNFINISHED = "done", "diverged", "unfinished"
COMMAND_CHARACTERS = 32768


@dataclass
class NetworkFile:
    """The contents of a network file: the arrays of one seed, without seed axis.

    architecture: the description for `models.build`. training: the recipe. dataset: name, checksum, and the mean and
    inverse deviation of each channel, which standardise the images. position: the state of training, for resuming.
    optimizer: arrays by slot, then by path. history: one value for each epoch. origin: for a network derived from
    others (matched, merged, rotated), its sources; otherwise empty. imported: for a network of another program, and
    those made of it: its layout there, how images were prepared, and the proof of the import (docs/import.md).
    """

    architecture: dict
    training: dict
    dataset: dict
    seed: int
    status: str
    command: str
    versions: dict
    weights: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    optimizer: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    history: dict[str, np.ndarray] = field(default_factory=dict)
    position: dict = field(default_factory=dict)
    origin: dict = field(default_factory=dict)
    imported: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A network from a file, ready for `graph.forward`: arrays (1, ...)."""

    path: str
    file: NetworkFile
    network: Network
    arrays: dict[str, np.ndarray]
    standard: Standardisation


def load(path: str | Path) -> Loaded:
    """Return a network from its file. Raises BadInput if the file is damaged or does not fit its architecture."""
    file = load_network(path)
    try:
        network = models.build(file.architecture)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    require_arrays(network, file, str(path))
    arrays = {name: values[None] for name, values in (file.weights | file.state).items()}
    return Loaded(str(path), file, network, arrays, standardisation(file, str(path)))


def standardisation(file: NetworkFile, path: str) -> Standardisation:
    """Return how the images of a network are standardised. Raises BadInput if its file does not say it."""
    try:
        mean, inverse = (np.array(file.dataset[key], np.float32) for key in ("mean", "inverse_deviation"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path}: does not say how its images are standardised ({error!r})") from error
    return Standardisation(mean, inverse)


def initial_arrays(loaded: Loaded, parameter: str) -> dict[str, np.ndarray]:
    """Return the initial arrays of a network, without seed axis, drawn again.

    Raises BadInput, with the name of the parameter that needs them, if the network's seed does not determine them.
    """
    file, recipe = loaded.file, Recipe.from_stored(loaded.file.training)
    for foreign, why in (
        (file.origin, "was not trained as it is"),
        (recipe.start_from, "started from another network"),
        (recipe.donor, "has layers of a donor"),
    ):
        if foreign:
            raise BadInput(f"{loaded.path}: {why}: its initial weights cannot be drawn again for `{parameter}`")
    return weights.initial(loaded.network, recipe.stream_seed("init", file.seed))


def is_network(path: str | Path) -> bool:
    """Return whether a file of activations or of a network is a network's. Raises BadInput if it cannot be read."""
    return Path(path).suffix not in (".npz", ".npy") and open_reader(path).kind == NETWORK


def require_arrays(network: Network, file: NetworkFile, name: str) -> None:
    """Raise BadInput unless a file holds exactly the arrays of a network, in float32 and of the right shapes."""
    arrays = file.weights | file.state
    for path, weight in network.weights.items():
        if path not in arrays:
            raise BadInput(f"{name}: no weight {path}")
        if arrays[path].shape != weight.shape or arrays[path].dtype != np.float32:
            raise BadInput(f"{name}: {path} is {arrays[path].dtype} {arrays[path].shape}, not float32 {weight.shape}")
    if extra := set(arrays) - set(network.weights):
        raise BadInput(f"{name}: weights that the architecture does not have: {', '.join(sorted(extra))}")


def difference(theirs: Mapping, ours: Mapping) -> str | None:
    """Return the first difference of two descriptions in words, "depth 20, not 32", None if they are the same."""
    name = differing(theirs, ours)
    return name and f"{name} {theirs.get(name)}, not {ours.get(name)}"


def differing(theirs: Mapping, ours: Mapping) -> str | None:
    """Return the first field in which two descriptions differ, None if they are the same."""
    return next((name for name in [*ours, *theirs] if theirs.get(name) != ours.get(name)), None)


def require_finite(loaded: Loaded) -> None:
    """Raise BadInput if a weight or a state of a network is NaN or infinite."""
    broken = [path for path, values in loaded.arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise BadInput(f"{loaded.path}: {broken[0]} holds values that are not finite; leave the network out")


def versions() -> dict[str, str]:
    """Return the versions of all software, and the machine or card, that decide the bits of a result."""
    import numba

    versions_of = {
        "basiscli": __version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    return versions_of | placement.versions()


def save_network(path: str | Path, network: NetworkFile, force: bool = False) -> None:
    """Write a network file without activations."""
    with writing(path, force) as file:
        write_network(file, network)


def write_network(writer: Writer, network: NetworkFile) -> None:
    """Write a network into an open file: everything but activations."""
    # HDF5 keeps at most 64 KiB in an attribute of this layout, so a command line of thousands of paths is cut.
    network.command = network.command[:COMMAND_CHARACTERS]
    attributes = {
        "kind": NETWORK,
        "architecture": network.architecture,
        "training": network.training,
        "dataset": network.dataset,
        "seed": network.seed,
        "status": network.status,
        "command": network.command,
        "versions": network.versions,
        "position": network.position,
    }
    derived = {"origin": network.origin, "imported": network.imported}
    writer.attributes(attributes | {name: value for name, value in derived.items() if value})
    writer.arrays("weights", network.weights)
    writer.arrays("state", network.state)
    for slot, arrays in network.optimizer.items():
        writer.arrays(f"optimizer/{slot}", arrays)
    writer.arrays("history", network.history)


def load_network(path: str | Path) -> NetworkFile:
    """Return the contents of a network file. Raises BadInput for another kind of file and for a damaged one."""
    with reading(path) as file:
        if file.kind != NETWORK:
            raise BadInput(f"{path}: holds {file.kind}, not a network")
        optimizer: dict[str, dict[str, np.ndarray]] = {}
        for name, array in file.arrays("optimizer").items():
            slot, _, weight = name.partition("/")
            optimizer.setdefault(slot, {})[weight] = array
        with file.checked("an attribute"):
            network = NetworkFile(
                architecture=file.json("architecture"),
                training=file.json("training"),
                dataset=file.json("dataset"),
                seed=int(file.attribute("seed")),
                status=str(file.attribute("status")),
                command=str(file.attribute("command")),
                versions=file.json("versions"),
                weights=file.arrays("weights"),
                state=file.arrays("state"),
                optimizer=optimizer,
                history=file.arrays("history"),
                position=file.json("position"),
                origin=file.json("origin", default="{}"),
                imported=file.json("imported", default="{}"),
            )
    if network.imported and not network.imported.get("proof"):
        log.warning(f"{path}: unproven: imported without a check of its logits (`check` of import)", extra=ONCE)
    return network
