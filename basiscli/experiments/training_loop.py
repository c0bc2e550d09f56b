"""The training of seeds to their end: the folder of networks, groups that fit the memory, checkpoints, Ctrl-C."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from basiscli import atomic
from basiscli.data import Dataset
from basiscli.device import placement
from basiscli.errors import BadInput
from basiscli.files import activations as sources
from basiscli.files import checkpoint, kinds, networks
from basiscli.files.networks import UNFINISHED, NetworkFile, load_network, write_network
from basiscli.files.writer import writing
from basiscli.nn import cost, weights
from basiscli.nn.graph import Network
from basiscli.notes import log
from basiscli.training import optim
from basiscli.training.images import steps_per_epoch
from basiscli.training.progress import Progress
from basiscli.training.recipe import Recipe
from basiscli.training.run import Run, bytes_per_seed

# Seconds between two checkpoints, at least: for small networks a checkpoint takes longer than an epoch.
CHECKPOINT_SECONDS = 3.0
# Seconds of training between two updates of the display, with a check for Ctrl-C.
PAUSE = 0.1
# Part of the free memory that the networks in training may take together.
MEMORY_PART = 0.5


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, by its number, after the step was finished, everything saved, and the user told."""

    number, told = int(signal.SIGINT), True


@dataclass(frozen=True)
class SeedGroup:
    """Networks that train at once, by their seeds; `files` holds the state of each, none for a fresh start."""

    members: tuple
    files: tuple[NetworkFile, ...] = ()

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and step that come next."""
        return (self.files[0].position["epoch"], self.files[0].position["step"]) if self.files else (0, 0)


def seeds_that_fit(network: Network, recipe: Recipe) -> int:
    """Return how many seeds may train at once in the free memory. Raises BadInput if not even one fits."""
    needed, free = bytes_per_seed(network, recipe), placement.available_memory()
    if needed > free:
        raise BadInput(
            f"one network of this size needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "choose a smaller `width`, `depth` or `batch_size`"
        )
    return max(1, int(MEMORY_PART * free / needed))


@dataclass(frozen=True)
class Folder:
    """The folder that a job writes, a file for each seed: FOLDER/seed0.h5 and so on.

    activations: whether files hold the hidden activations of the test images. checkpoint_every: in epochs; 0 writes
    only at the end. resume, force: continue from files that exist, or overwrite them. keep: epochs after which networks
    are kept in files of their own; 0 stands for the start.
    """

    path: Path
    dataset: Dataset
    seeds: tuple[int, ...]
    activations: bool
    checkpoint_every: int = 1
    resume: bool = False
    force: bool = False
    command: str = ""
    keep: tuple[int, ...] = ()

    def file(self, seed: int, epoch: int | None = None) -> Path:
        """Return the path of a seed's network, or of the copy that is kept after an epoch."""
        return self.path / (f"seed{seed}.h5" if epoch is None else f"seed{seed}-epoch{epoch}.h5")

    def prepare(self, network: Network, recipe: Recipe) -> dict[int, NetworkFile]:
        """Return, if the job resumes, its networks that exist already, by seed.

        Raises BadInput if networks exist and the job neither resumes nor overwrites, or if networks to be resumed were
        trained differently.
        """
        files = {}
        for seed in self.seeds:
            path = self.file(seed)
            if self.resume and path.exists():
                files[seed] = self._resumable(path, seed, network, recipe)
                self._require_kept(files[seed])
            for written in (path, *(self.file(seed, epoch) for epoch in self.keep)):
                self._require_free(written)
        return files

    def save(self, run: Run, s: int, activations: bool, epoch: int | None = None) -> NetworkFile:
        """Write the s-th network of a run, with the hidden activations of the test images if asked for.

        epoch: that it is kept of, in a file of its own.
        """
        file = checkpoint.snapshot(run, s, self.command)
        path = self.file(file.seed, epoch)
        with writing(path, force=True) as writer:
            write_network(writer, file)
            if activations:
                arrays = {name: values[None] for name, values in (file.weights | file.state).items()}
                source = sources.of_network(
                    str(path), run.network, arrays, run.standard, self.dataset, split="test", tap="post"
                )
                sources.record(writer, source, "test", "post")
        return file

    def due(self) -> Callable[[Run], bool]:
        """Return a function that says, after an epoch of a run, whether to write a checkpoint."""
        return due_after(self.checkpoint_every, CHECKPOINT_SECONDS)

    def checkpoint(self, run: Run) -> None:
        """Write the present state of the networks of a run."""
        for s in range(len(run.seeds)):
            self.save(run, s, activations=False)

    def keep_epoch(self, run: Run) -> None:
        """Write the networks of a run into files of their own if they are to be kept after this epoch.

        They are unfinished files in every respect, as an interruption there would leave them. The last epoch needs no
        such file: it is the network itself.
        """
        if run.epoch in self.keep and not run.step:
            for s in range(len(run.seeds)):
                self.save(run, s, activations=False, epoch=run.epoch)

    def finish(self, run: Run) -> list[NetworkFile]:
        """Write the final files of a run, all of them, and return them."""
        return [self.save(run, s, self.activations and bool(run.alive[s])) for s in range(len(run.seeds))]

    def bytes(self, network: Network, recipe: Recipe) -> int:
        """Return about how large the files become: the largest checkpoint, or network and activations."""
        floats = weights.layout(network).size * (1 + len(optim.SLOTS[recipe.optimizer]))
        if self.activations:
            floats += len(self.dataset.test.labels) * cost.layer_activations(network)
        return cost.FLOAT_BYTES * floats * len(self.seeds) * (1 + len(self.keep))

    def _require_free(self, path: Path) -> None:
        """Raise BadInput for a file that is not a network, or that the job neither resumes nor overwrites."""
        if path.exists() and not (self.resume or self.force):
            raise BadInput(f"{path}: exists; `resume` goes on with it, `force` overwrites it, or choose another `out`")
        kinds.require_target(path, kinds.NETWORK, force=True)

    def _require_kept(self, file: NetworkFile) -> None:
        """Raise BadInput where training is past an epoch that was not kept, or was kept of another run."""
        position = file.position.get("epoch", 0), file.position.get("step", 0)
        for epoch in self.keep:
            path = self.file(file.seed, epoch)
            if position <= (epoch, 0):
                continue
            if not path.exists():
                raise BadInput(f"{path}: was not kept, and training is past that epoch; `force` trains anew")
            if not _on_the_way_to(load_network(path), file, epoch):
                raise BadInput(
                    f"{path}: is no stage of {self.file(file.seed)}, but of another run; `force` trains anew"
                )

    def _resumable(self, path: Path, seed: int, network: Network, recipe: Recipe) -> NetworkFile:
        file = load_network(path)
        require_same(path, file, {"architecture": network.architecture, "training": recipe.stored(), "seed": seed})
        if file.dataset.get("checksum") != self.dataset.checksum:
            raise BadInput(f"{path}: was trained on another data set than this {self.dataset.name}")
        networks.require_arrays(network, file, str(path))
        return file


@contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder while networks in it are trained. If another program holds it: raise BadInput, or `wait`."""
    with ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(atomic.alone(folder))
                break
            except BlockingIOError as error:
                if not wait:
                    raise BadInput(
                        f"{folder}: another program trains here; wait for it, or choose another `out`"
                    ) from error
                if not told:
                    log.warning(f"{folder}: another program trains here; waiting for it")
                told = True
                time.sleep(PAUSE)
        yield


def make_folder(path: Path, needed: int) -> None:
    """Make a folder unless it exists. Raises BadInput if that fails, or if fewer bytes than `needed` are free."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path}: cannot be made ({error.strerror})") from error
    free = shutil.disk_usage(path).free
    if needed > free:
        raise BadInput(f"{path}: the files need about {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free")


def require_same(path: Path, file: NetworkFile, wanted: Mapping[str, object]) -> None:
    """Raise BadInput unless a file that exists agrees with the training to come, field by field."""
    for name, value in wanted.items():
        stored = getattr(file, name)
        if stored != value:
            raise BadInput(
                f"{path}: was trained with another {name} ({_difference(stored, value)}); `force` overwrites it"
            )


def train_to_end(
    run: Run,
    save: Callable[[], object],
    due: Callable[[Run], bool],
    progress: Progress,
    stop: Callable[[], bool],
    between: Callable[[Run], None] = lambda run: None,
) -> None:
    """Train a run to its end, saving after the epochs that are `due`. Raises Interrupted, saved, when `stop()`.

    between: is called with the run before its first step and after each epoch, before anything else is saved.
    """
    between(run)
    while not run.finished:
        complete = run.train_epoch(stop, lambda steps: progress.tick(run, steps), PAUSE)
        if complete:
            progress.close_epoch(run)
            between(run)
        if not complete or (due(run) and not run.finished):
            save()
        if not complete:
            raise Interrupted(f"in epoch {run.epoch + 1} of {run.recipe.epochs}")


def due_after(epochs: int, seconds: float) -> Callable[[Run], bool]:
    """Return a function that is true after an epoch if `epochs` and `seconds` passed since it was last true; 0: never.

    An interruption that leaves no time to save thus costs `epochs` epochs or `seconds` seconds, whichever is longer.
    """
    saved_epoch, saved_time = None, time.monotonic()

    def due(run: Run) -> bool:
        nonlocal saved_epoch, saved_time
        saved_epoch = run.epoch - 1 if saved_epoch is None else saved_epoch
        now = time.monotonic()
        if not epochs or run.epoch - saved_epoch < epochs or now - saved_time < seconds:
            return False
        saved_epoch, saved_time = run.epoch, now
        return True

    return due


def grouped(members: Sequence, files: Mapping[Any, NetworkFile], size: int) -> Iterator[SeedGroup]:
    """Yield groups of members that are not finished: members at the same position together, at most `size` at once.

    Members are seeds, or other keys of networks; `files` holds the files that exist, by member.
    """
    by_position: dict[tuple[int, int], list] = {}
    for member in members:
        if member not in files:
            by_position.setdefault((0, 0), []).append(member)
        elif files[member].status == UNFINISHED:
            by_position.setdefault(SeedGroup((member,), (files[member],)).position, []).append(member)
    for position, members_there in sorted(by_position.items()):
        for start in range(0, len(members_there), size):
            part = tuple(members_there[start : start + size])
            yield SeedGroup(part, () if position == (0, 0) else tuple(files[member] for member in part))


def steps_left(group: SeedGroup, recipe: Recipe, dataset: Dataset) -> int:
    """Return how many steps a group still needs."""
    per_epoch = steps_per_epoch(dataset, recipe)
    epoch, step = group.position
    return (recipe.epochs - epoch) * per_epoch - step


def _on_the_way_to(kept: NetworkFile, file: NetworkFile, epoch: int) -> bool:
    """Whether a network is the stage after an epoch of a run that another file holds at a later stage."""
    same = all(getattr(kept, name) == getattr(file, name) for name in ("architecture", "training", "dataset", "seed"))
    there = (kept.position.get("epoch"), kept.position.get("step")) == (epoch, 0)
    passed = all(
        np.array_equal(values, file.history.get(name, values)[: len(values)], equal_nan=True)
        for name, values in kept.history.items()
    )
    return same and there and passed


def _difference(stored: object, wanted: object) -> str:
    """Name the first field in which two descriptions differ."""
    if isinstance(stored, dict) and isinstance(wanted, dict) and (field := networks.difference(stored, wanted)):
        return field
    return f"{stored}, not {wanted}"


@contextmanager
def interruptible(go_on: str) -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag, yielded as a function, so that a step is never cut in two.

    A second signal ends the process at once, as by default. On Interrupted a line on stderr says `go_on`. If a GPU
    fails, all arrays are lost; the BadInput raised then says `go_on` too, from the last checkpoint.
    """
    seen: list[int] = []
    previous: dict[signal.Signals, Any] = {}

    def note(number, frame):
        seen.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, note)
    try:
        yield lambda: bool(seen)
    except Interrupted as error:
        error.number = seen[0]
        log.warning(f"interrupted and saved {error}; {go_on}")
        raise
    except Exception as error:
        if placement.failed(error):
            raise BadInput(f"the GPU failed in training ({error}); {go_on} from what was saved last") from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
