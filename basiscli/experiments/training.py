"""A training session: a folder of networks, seeds in groups that fit the memory, checkpoints, resuming."""

import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files import activations as sources
from basiscli.files import checkpoint, hdf5, networks
from basiscli.files.checkpoint import Prefix
from basiscli.files.datasets import load_dataset
from basiscli.files.networks import UNFINISHED, NetworkFile, load_network, write_network
from basiscli.kernels.cpu import compiling
from basiscli.nn import cost, models, weights
from basiscli.nn.graph import Network
from basiscli.training import augment, defaults, optim, timing
from basiscli.training.images import steps_per_epoch
from basiscli.training.progress import Progress
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run, bytes_per_seed

# Hidden activations of the test images are stored without being asked for up to this size; beyond it they are computed
# from the network when they are needed.
STORED_BYTES = 100_000_000
# Part of the free memory that the networks in training may take together.
MEMORY_PART = 0.5


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the step was finished and everything saved."""


@dataclass(frozen=True)
class Group:
    """Networks that train at once, by their seeds; `files` holds where each stands, none for a fresh start."""

    members: tuple
    files: tuple[NetworkFile, ...] = ()

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and step that come next."""
        return (self.files[0].position["epoch"], self.files[0].position["step"]) if self.files else (0, 0)


def run(options: Mapping, go_on: str = "the same command with --resume goes on") -> Iterator[dict]:
    """Train the networks that the options of `basiscli train` describe; yield a record for each.

    Raises BadInput before anything is trained if the options, the data set or the folder do not fit, and Interrupted
    when Ctrl-C was pressed and the state is saved; `go_on` is what is said then.
    """
    dataset = load_dataset(options["dataset"])
    network, options = plan(options, dataset)
    prefix = _prefix(options, network, dataset)
    recipe = recipe_of(options, prefix)
    adjust = _transplant(options["start_from"], options["start_weights"] or ("*",), network, prefix)
    size = options["seed_batch"] or seeds_that_fit(network, recipe)
    folder = Folder(Path(options["out"]), options, dataset)
    found = folder.prepare(network, recipe)
    groups = list(grouped(options["seeds"], found, size))

    for file in found.values():
        if file.status != UNFINISHED:
            yield folder.record(file)
    steps = sum(steps_left(group, recipe, dataset) for group in groups)
    with interruptible(go_on) as stop, Progress(steps) as progress:
        compiling.announce(lambda: progress.note("compiling kernels: once after installation, about half a minute"))
        for group in groups:
            if group.files:
                run = checkpoint.resume(group.files, dataset)
            else:
                run = Run.start(network, recipe, dataset, group.members, adjust)
            train_to_end(run, partial(folder.checkpoint, run), folder.due, progress, stop)
            yield from folder.finish(run)


def dry_run(options: Mapping) -> Iterator[dict]:
    """Yield one record: what the run that the options describe would take.

    seconds is what is left when kernels are compiled, from a few measured steps and a measured evaluation; memory is
    that of the seeds that train at once, disk that of all files. Raises BadInput as `run` does; nothing is written.
    """
    dataset = load_dataset(options["dataset"])
    network, options = plan(options, dataset)
    prefix = _prefix(options, network, dataset)
    recipe, seeds = recipe_of(options, prefix), options["seeds"]
    at_once = min(options["seed_batch"] or seeds_that_fit(network, recipe), len(seeds))
    step, evaluation = timing.seconds(network, recipe, dataset, seeds[:at_once])
    groups, steps = -(-len(seeds) // at_once), steps_per_epoch(dataset, recipe)
    yield {
        "model": options["model"],
        "parameters": cost.parameters(network),
        "multiply_adds": cost.multiply_adds(network),
        "epochs": recipe.epochs,
        "steps": recipe.epochs * steps,
        "seeds": len(seeds),
        "seeds_at_once": at_once,
        "step_seconds": round(step, 4),
        "seconds": round(groups * recipe.epochs * (steps * step + evaluation), 1),
        "memory_mb": round(at_once * bytes_per_seed(network, recipe) / 1e6),
        "disk_mb": round(_disk_bytes(network, recipe, dataset, options) / 1e6, 1),
    }


def plan(options: Mapping, dataset: Dataset) -> tuple[Network, dict]:
    """Return the network that the options describe, and the options with all defaults filled in."""
    options = defaults.filled(options, dataset)
    augment.parse(options["augment"])
    network = models.build(defaults.architecture(options, dataset))
    weights.select(network.trained, options["freeze"])
    if options["activations"] is None:
        stored = cost.FLOAT_BYTES * len(dataset.test.labels) * cost.layer_activations(network)
        options["activations"] = stored <= STORED_BYTES
    return network, options


def recipe_of(options: Mapping, prefix: Prefix | None = None) -> Recipe:
    """Return the recipe that filled options describe, and the layers of a donor."""
    names = {field.name for field in fields(Recipe)} - {"start_weights", "frozen", "donor", "prefix"}
    return Recipe(
        **{name: options[name] for name in names},
        start_weights=tuple(options["start_weights"]),
        frozen=tuple(options["freeze"]),
        donor=prefix.checksum if prefix else None,
        prefix=options["freeze_prefix"] if prefix else 0,
    )


def seeds_that_fit(network: Network, recipe: Recipe) -> int:
    """Return how many seeds may train at once in the free memory. Raises BadInput if not even one fits."""
    needed, there = bytes_per_seed(network, recipe), placement.available_memory()
    if needed > there:
        raise BadInput(
            f"one network of this size needs about {needed / 1e9:.1f} GB, {there / 1e9:.1f} GB are free; "
            "choose a smaller --width, --depth or --batch-size"
        )
    return max(1, int(MEMORY_PART * there / needed))


@dataclass(frozen=True)
class Folder:
    """The folder that a session writes, a file a seed: FOLDER/seed0.h5 and so on."""

    path: Path
    options: Mapping
    dataset: Dataset

    def file(self, seed: int) -> Path:
        """Return the path of a seed's network."""
        return self.path / f"seed{seed}.h5"

    def prepare(self, network: Network, recipe: Recipe) -> dict[int, NetworkFile]:
        """Make the folder and return what it already holds of the session, by seed (nothing unless it is resumed).

        Raises BadInput if the folder cannot be made or written or has too little space, if networks are there and
        neither --resume nor --force was given, or if those to be resumed were trained differently.
        """
        make_folder(self.path, _disk_bytes(network, recipe, self.dataset, self.options))
        found = {}
        for seed in self.options["seeds"]:
            path = self.file(seed)
            if not path.exists():
                continue
            if self.options["resume"]:
                found[seed] = self._resumable(path, seed, network, recipe)
            elif not self.options["force"]:
                raise BadInput(
                    f"{path}: exists; --resume goes on with it, --force overwrites it, or choose another --out"
                )
        return found

    def save(self, run: Run, s: int, activations: bool) -> NetworkFile:
        """Write the s-th network of a run, with the hidden activations of the test images if asked for."""
        file = checkpoint.snapshot(run, s, self.options["command"])
        path = self.file(file.seed)
        with hdf5.writing(path, force=True) as writer:
            write_network(writer, file)
            if activations:
                arrays = {name: values[None] for name, values in (file.weights | file.state).items()}
                source = sources.of_network(
                    str(path), run.network, arrays, run.standard, self.dataset, split="test", tap="post"
                )
                sources.record(writer, source, "test", "post")
        return file

    def due(self, run: Run) -> bool:
        """Whether a checkpoint is to be written after the epoch that has just ended."""
        every = self.options["checkpoint_every"]
        return bool(every) and run.epoch % every == 0

    def checkpoint(self, run: Run) -> None:
        """Write how far the networks of a run have come."""
        for s in range(len(run.seeds)):
            self.save(run, s, activations=False)

    def finish(self, run: Run) -> Iterator[dict]:
        """Write the final files of a run, all of them, and yield their records."""
        files = [self.save(run, s, self.options["activations"] and bool(run.alive[s])) for s in range(len(run.seeds))]
        yield from map(self.record, files)

    def record(self, file: NetworkFile) -> dict:
        """Return the record of a network."""
        last = {name: float(values[-1]) if len(values) else None for name, values in file.history.items()}
        return {
            "path": str(self.file(file.seed)),
            "seed": file.seed,
            "status": file.status,
            "test_accuracy": last.get("test_accuracy"),
            "test_loss": last.get("test_loss"),
            "train_loss": last.get("train_loss"),
        }

    def _resumable(self, path: Path, seed: int, network: Network, recipe: Recipe) -> NetworkFile:
        file = load_network(path)
        require_same(path, file, {"architecture": network.architecture, "training": recipe.stored(), "seed": seed})
        if file.dataset.get("checksum") != self.dataset.checksum:
            raise BadInput(f"{path}: was trained on another data set than this {self.dataset.name}")
        networks.require_arrays(network, file, str(path))
        return file


def make_folder(path: Path, needed: int) -> None:
    """Make a folder where it is not there. Raises BadInput if that fails, or fewer bytes than `needed` are free."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path}: cannot be made ({error.strerror})") from error
    there = shutil.disk_usage(path).free
    if needed > there:
        raise BadInput(f"{path}: the files need about {needed / 1e6:.1f} MB, {there / 1e6:.1f} MB are free")


def require_same(path: Path, file: NetworkFile, wanted: Mapping[str, object]) -> None:
    """Raise BadInput unless a file that is there holds what is about to be trained, field by field."""
    for name, value in wanted.items():
        there = getattr(file, name)
        if there != value:
            raise BadInput(
                f"{path}: was trained with another {name} ({_difference(there, value)}); --force overwrites it"
            )


def _disk_bytes(network: Network, recipe: Recipe, dataset: Dataset, options: Mapping) -> int:
    """Return about how large the files of a session become: the largest checkpoint, or network and activations."""
    floats = weights.layout(network).size * (1 + len(optim.SLOTS[recipe.optimizer]))
    if options["activations"]:
        floats += len(dataset.test.labels) * cost.layer_activations(network)
    return cost.FLOAT_BYTES * floats * len(options["seeds"])


def train_to_end(
    run: Run,
    save: Callable[[], None],
    due: Callable[[Run], bool],
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Train a run to its end, saving after the epochs that are `due`. Raises Interrupted, saved, when `stop()`."""
    while not run.finished:
        complete = run.train_epoch(stop, lambda: progress.tick(run))
        if complete:
            progress.close_epoch(run)
        if not complete or (due(run) and not run.finished):
            save()
        if not complete:
            raise Interrupted


def grouped(members: Sequence, found: Mapping[object, NetworkFile], size: int) -> Iterator[Group]:
    """Yield what is left to train: members at the same position together, at most `size` at once.

    Members are seeds, or whatever else stands for networks; `found` holds the files that are there.
    """
    by_position: dict[tuple[int, int], list] = {}
    for member in members:
        if member not in found:
            by_position.setdefault((0, 0), []).append(member)
        elif found[member].status == UNFINISHED:
            by_position.setdefault(Group((member,), (found[member],)).position, []).append(member)
    for position, there in sorted(by_position.items()):
        for start in range(0, len(there), size):
            part = tuple(there[start : start + size])
            yield Group(part, () if position == (0, 0) else tuple(found[member] for member in part))


def steps_left(group: Group, recipe: Recipe, dataset: Dataset) -> int:
    """Return how many steps a group has before it."""
    per_epoch = steps_per_epoch(dataset, recipe)
    epoch, step = group.position
    return (recipe.epochs - epoch) * per_epoch - step


def _prefix(options: Mapping, network: Network, dataset: Dataset) -> Prefix | None:
    """Return the layers of the donor that the options name, None if they name none."""
    if options["donor"] is None:
        return None
    return checkpoint.load_prefix(options["donor"], network, dataset, options["freeze_prefix"])


def _transplant(
    donor: str | None, globs: Sequence[str], network: Network, prefix: Prefix | None
) -> Callable[[dict], None]:
    """Return what copies a network's weights, and then the layers of a donor, into a seed's initial arrays."""
    arrays: dict = {}
    if donor is not None:
        file = load_network(donor)
        arrays = file.weights | file.state
        weights.transplant(weights.initial(network, 0), arrays, globs, donor)  # a misfit is said before training

    def adjust(initial: dict) -> None:
        if donor is not None:
            weights.transplant(initial, arrays, globs, donor)
        if prefix:
            for path, values in prefix.arrays.items():
                initial[path][...] = values

    return adjust


def _difference(there: object, wanted: object) -> str:
    """Name the first field in which two descriptions differ."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in wanted:
            if there.get(key) != wanted[key]:
                return f"{key} {there.get(key)}, not {wanted[key]}"
    return f"{there}, not {wanted}"


@contextmanager
def interruptible(go_on: str) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag, yielded as a function, so that a step is never cut in two.

    A second signal kills at once, as it would without us. On Interrupted a line says `go_on`.
    """
    seen: list[int] = []
    previous = {}

    def note(number, frame):
        seen.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield lambda: bool(seen)
    except Interrupted:
        print(f"basiscli: interrupted and saved; {go_on}", file=sys.stderr)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
