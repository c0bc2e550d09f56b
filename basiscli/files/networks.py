"""Network files: read, check and write them."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from basiscli import __version__
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files import schema
from basiscli.files.hdf5 import NETWORK, Reader, open_reader, reading
from basiscli.files.schema import DIVERGED as DIVERGED
from basiscli.files.schema import DONE as DONE
from basiscli.files.schema import UNFINISHED, NetworkAttributes
from basiscli.files.writer import Writer, writing
from basiscli.nn import models, weights
from basiscli.nn.graph import Network
from basiscli.notes import ONCE, log
from basiscli.training import optim
from basiscli.training.images import Standardisation
from basiscli.training.recipe import Recipe

COMMAND_CHARACTERS = 32768


@dataclass(kw_only=True)
class NetworkFile(NetworkAttributes):
    """The contents of a network file: its attributes, and the arrays of one seed, without seed axis.

    optimizer: arrays by slot, then by path. history: one value for each epoch.
    """

    weights: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    optimizer: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    history: dict[str, np.ndarray] = field(default_factory=dict)


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
    with reading(path) as reader:
        file, network = contents(reader)
    arrays = {name: values[None] for name, values in (file.weights | file.state).items()}
    return Loaded(str(path), file, network, arrays, standardisation(file, str(path)))


def standardisation(file: NetworkFile, path: str) -> Standardisation:
    """Return how the images of a network are standardised. Raises BadInput unless its file says it of each channel."""
    mean, inverse = (np.array(file.dataset[key], np.float32) for key in ("mean", "inverse_deviation"))
    channels = file.architecture["input_shape"][-1]
    if len(mean) != channels or len(inverse) != channels:
        raise BadInput(f"{path}: does not say how each of the {channels} channels of its images is standardised")
    return Standardisation(mean, inverse)


def load_network(path: str | Path) -> NetworkFile:
    """Return the contents of a network file. Raises BadInput for another kind of file and for a damaged one."""
    with reading(path) as reader:
        return contents(reader)[0]


def contents(reader: Reader) -> tuple[NetworkFile, Network]:
    """Return the contents of an open file, and the network of its architecture.

    Every array is compared with the architecture, the optimiser or the number of epochs before it is read. Raises
    BadInput for another kind of file and for a damaged one.
    """
    path = reader.path
    if reader.kind != NETWORK:
        raise BadInput(f"{path}: holds {reader.kind}, not a network")
    attributes = schema.read(NetworkAttributes, reader)
    if attributes.status == UNFINISHED and (lacking := set(schema.POSITION) - set(attributes.position)):
        raise BadInput(f"{path}: the attribute position lacks {', '.join(sorted(lacking))}; make the file anew")
    try:
        network = models.build(attributes.architecture)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    held = {group: reader.datasets(group) for group in ("weights", "state", "optimizer", "history")}
    _require_shapes(network, held["weights"] | held["state"], path)
    _require_slots(network, held["optimizer"], attributes.training["optimizer"], path)
    require_history(held["history"], attributes, path)
    optimizer: dict[str, dict[str, np.ndarray]] = {}
    for name in held["optimizer"]:
        slot, _, weight = name.partition("/")
        optimizer.setdefault(slot, {})[weight] = reader.array(f"optimizer/{name}")
    trained, state, history = (reader.arrays(group) for group in ("weights", "state", "history"))
    file = NetworkFile(**vars(attributes), weights=trained, state=state, optimizer=optimizer, history=history)
    if file.imported and not file.imported.get("proof"):
        log.warning(f"{path}: unproven: imported without a check of its logits (`check` of import)", extra=ONCE)
    return file, network


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
    _require_shapes(network, file.weights | file.state, name)


def _require_shapes(network: Network, arrays: Mapping[str, Any], name: str) -> None:
    for path, weight in network.weights.items():
        if path not in arrays:
            raise BadInput(f"{name}: no weight {path}")
        _require_float32(arrays[path], weight.shape, f"{name}: {path}")
    if extra := set(arrays) - set(network.weights):
        raise BadInput(f"{name}: weights that the architecture does not have: {', '.join(sorted(extra)):.200}")


def _require_float32(array: Any, shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape or array.dtype != np.float32:
        raise BadInput(f"{name} is {array.dtype} {array.shape}, not float32 {shape}")


def _require_slots(network: Network, arrays: Mapping[str, Any], optimizer: str, name: str) -> None:
    """Raise BadInput unless the optimiser's arrays are those of its slots, each like the weight of its path."""
    for path, array in arrays.items():
        slot, _, weight = path.partition("/")
        if slot not in optim.SLOTS[optimizer] or weight not in network.trained:
            raise BadInput(f"{name}: optimizer/{path} is no memory of {optimizer} for a weight of the architecture")
        _require_float32(array, network.weights[weight].shape, f"{name}: optimizer/{path}")


def require_history(arrays: Mapping[str, Any], attributes: NetworkAttributes, name: str) -> None:
    """Raise BadInput unless every history is a float64 for each epoch, or one for a network that was not trained."""
    most = max(1, attributes.training["epochs"])
    done = attributes.position.get("epoch") if attributes.status == UNFINISHED else None
    for path, array in arrays.items():
        fits = array.ndim == 1 and array.dtype == np.float64 and len(array) <= most
        if not fits or (done is not None and len(array) != done):
            epochs = f"at most {most}" if done is None else done
            said = f"history/{path} is {array.dtype} {array.shape!s:.60}"
            raise BadInput(f"{name}: {said}, not a float64 for each epoch ({epochs})")


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
    attributes = {f.name: getattr(network, f.name) for f in schema.described(NetworkAttributes)}
    for derived in ("origin", "imported"):
        if not attributes[derived]:
            del attributes[derived]
    writer.attributes({"kind": NETWORK, **attributes})
    writer.arrays("weights", network.weights)
    writer.arrays("state", network.state)
    for slot, arrays in network.optimizer.items():
        writer.arrays(f"optimizer/{slot}", arrays)
    writer.arrays("history", network.history)
