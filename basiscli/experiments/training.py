"""Training over seeds: the job, which holds every option of training, and the records of its networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from basiscli.data import Dataset
from basiscli.errors import BadInput
from basiscli.experiments.groups import train_groups
from basiscli.experiments.training_loop import (
    Folder,
    SeedGroup,
    alone_in,
    grouped,
    interruptible,
    make_folder,
    seeds_that_fit,
    steps_left,
    train_to_end,
)
from basiscli.files import checkpoint
from basiscli.files.checkpoint import Prefix
from basiscli.files.datasets import load_dataset
from basiscli.files.networks import UNFINISHED, NetworkFile, load_network
from basiscli.kernels.cpu import compiling
from basiscli.nn import cost, models, weights
from basiscli.nn.graph import Network
from basiscli.training import augment, defaults, timing
from basiscli.training.images import steps_per_epoch
from basiscli.training.progress import Progress
from basiscli.training.recipe import STREAMS, Recipe
from basiscli.training.run import Run, bytes_per_seed

# Up to this size, hidden activations of the test images are stored by default. Larger ones are computed from the
# network when they are needed.
STORED_BYTES = 100_000_000
# Options that only some models have.
OF_MODELS = {
    "hidden": ("mlp",),
    "depth": ("mlp", "vgg", "resnet", "wideresnet"),
    "layout": ("convnet", "vgg"),
    "pooling": ("convnet", "vgg"),
    "shortcut": ("resnet",),
    "dropout": ("wideresnet",),
}
# What `keep` takes in place of epochs: 0, 1, 2, 4, 8 and so on.
LOG = "log"


@dataclass(frozen=True)
class TrainingJob:
    """Networks to train, one for each seed: every option of `basiscli train`, by its name there.

    None stands for the value that the data set, the model and the other options imply (`filled`, docs/models.md).
    width: the units of each hidden layer of an mlp; for other models a factor of all channels. hidden: the units of an
    mlp's hidden layers one by one. channels: the axis of images in a file, see `data.from_arrays`. start_weights and
    freeze are globs over the paths of weights. The first `freeze_prefix` layers come from the network file `donor`, and
    are frozen unless start_only. out: a folder; `resume` continues from its files, `force` overwrites them. keep:
    epochs after which networks are also kept in files of their own, or LOG. seed_batch: how many seeds train at once.
    command: the command line that the files state as their origin.
    """

    dataset: str = "digits"
    channels: str | None = None
    model: str = "mlp"
    width: float | None = None
    depth: int | None = None
    hidden: tuple[int, ...] | None = None
    layout: tuple[int | str, ...] | None = None
    pooling: str | None = None
    shortcut: str | None = None
    dropout: float | None = None
    activation: str = "relu"
    norm: str | None = None
    seeds: tuple[int, ...] = (0,)
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float | None = None
    schedule: str = "cosine"
    warmup: float = 0.0
    clip: float | None = None
    label_smoothing: float = 0.0
    augment: str | None = None
    vary: tuple[str, ...] = STREAMS
    start_from: str | None = None
    start_weights: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    donor: str | None = None
    freeze_prefix: int | None = None
    start_only: bool = False
    out: str | None = None
    resume: bool = False
    force: bool = False
    checkpoint_every: int = 1
    keep: tuple[int, ...] | str = ()
    seed_batch: int | None = None
    activations: bool | None = None
    command: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "TrainingJob":
        """Return the job that options by name describe; other names are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in names})

    def require_consistent(self) -> None:
        """Raise BadInput for options that do not go together."""
        for name, having in OF_MODELS.items():
            if getattr(self, name) is not None and self.model not in having:
                raise BadInput(f"`{name}` is of {', '.join(having)}, not of {self.model}")
        for wrong, why in (
            (self.model == "mlp" and isinstance(self.width, float), "`width` of an mlp is a whole number of units"),
            (
                self.hidden and (self.width or self.depth),
                "`hidden` already says the width of each layer: leave out `width` and `depth`",
            ),
            (self.layout and self.depth, "`layout` already says every layer: leave out `depth`"),
            (self.resume and self.force, "`resume` keeps what is there, `force` overwrites it: choose one"),
            (
                self.start_weights and not self.start_from,
                "`start_weights` chooses from the network that `start_from` names",
            ),
            (
                (self.donor is None) != (self.freeze_prefix is None),
                "`donor` says whose layers, `freeze_prefix` how many: give both",
            ),
            (
                self.start_only and not self.donor,
                "`start_only` is about the layers that `donor` and `freeze_prefix` name",
            ),
            (
                self.nesterov and not (self.optimizer == "sgd" and self.momentum),
                "`nesterov` needs `optimizer` sgd with momentum",
            ),
        ):
            if wrong:
                raise BadInput(why)

    def filled(self, dataset: Dataset) -> "TrainingJob":
        """Return the job with the values that the data set, the model and the other options imply."""
        implied: Mapping[str, Any] = defaults.implied(dataset, self.model, self.optimizer, self.norm)
        return replace(self, **{name: value for name, value in implied.items() if getattr(self, name) is None})

    def architecture(self, dataset: Dataset) -> dict:
        """Return the description of the networks, as models.build takes it.

        Raises BadInput for a depth that the model does not have.
        """
        chosen = dict(vars(self))
        if self.model == "mlp":
            units = cast("int | None", self.width)  # see `require_consistent`
            chosen["hidden"] = self.hidden or defaults.hidden(dataset, units, self.depth)
        return defaults.description(self.model, dataset.train.images.shape[1:], dataset.classes, chosen)

    def recipe(self, prefix: Prefix | None = None) -> Recipe:
        """Return the recipe of a filled job. prefix: the layers of its donor."""
        names = {field.name for field in fields(Recipe)} - {"start_weights", "frozen", "donor", "prefix"}
        return Recipe(
            **{name: getattr(self, name) for name in names},
            start_weights=tuple(self.start_weights),
            frozen=tuple(self.freeze),
            donor=prefix.checksum if prefix else None,
            prefix=(self.freeze_prefix or 0) if prefix else 0,
        )

    def kept_epochs(self) -> tuple[int, ...]:
        """Return the epochs of a filled job after which networks are kept in files of their own: without the last one.

        Raises BadInput for epochs after the last one.
        """
        assert self.epochs is not None  # see `filled`
        if self.keep == LOG:
            return tuple(
                epoch for epoch in (0, *(2**k for k in range(self.epochs.bit_length()))) if epoch < self.epochs
            )
        beyond = [epoch for epoch in cast("tuple[int, ...]", self.keep) if epoch > self.epochs]
        if beyond:
            raise BadInput(f"`keep` {max(beyond)}: training ends after {self.epochs} epochs; choose from 0 to that")
        return tuple(sorted(epoch for epoch in cast("tuple[int, ...]", self.keep) if epoch < self.epochs))

    def folder(self, dataset: Dataset) -> Folder:
        """Return the folder that a filled job writes."""
        assert self.out is not None  # see `filled`
        return Folder(
            Path(self.out), dataset, self.seeds, bool(self.activations), self.checkpoint_every, self.resume, self.force,
            self.command, self.kept_epochs(),
        )  # fmt: skip


def train_networks(job: TrainingJob, go_on: str = "the same command with `resume` goes on") -> Iterator[dict]:
    """Train the networks of a job; yield a record for each.

    Raises BadInput before training if the options, the data set or the folder do not fit. Raises Interrupted after
    Ctrl-C, when the state is saved, with the message `go_on`.
    """
    dataset = load_dataset(job.dataset, job.channels)
    network, job = plan(job, dataset)
    prefix = _prefix(job, network, dataset)
    recipe = job.recipe(prefix)
    adjust = _transplant(job.start_from, job.start_weights or ("*",), network, prefix)
    size = job.seed_batch or seeds_that_fit(network, recipe)
    folder = job.folder(dataset)
    make_folder(folder.path, folder.bytes(network, recipe))
    # Held from the first look at the files to the last record: no record names a file that another program wrote since.
    with alone_in(folder.path):
        there = folder.prepare(network, recipe)
        groups = list(grouped(job.seeds, there, size))
        yield from (_record(folder, file) for file in there.values() if file.status != UNFINISHED)

        def begin(group: SeedGroup) -> Run:
            if group.files:
                return checkpoint.resume(group.files, dataset)
            return Run.start(network, recipe, dataset, group.members, adjust)

        steps = sum(steps_left(group, recipe, dataset) for group in groups)
        with interruptible(go_on) as stop, Progress(steps) as progress:
            compiling.announce(lambda: progress.note("compiling kernels: once after installation, about half a minute"))

            def train(group: SeedGroup) -> list[NetworkFile]:
                run = begin(group)
                train_to_end(run, partial(folder.checkpoint, run), folder.due(), progress, stop, folder.keep_epoch)
                return list(folder.finish(run))

            for _, files in train_groups(groups, train):
                yield from (_record(folder, file) for file in files)


def dry_run(job: TrainingJob) -> Iterator[dict]:
    """Yield one record: the time, memory and disk space that the training of a job would take.

    seconds: without the compilation of kernels, from a few measured steps and a measured evaluation. memory: of the
    seeds that train at once. disk: of all files. Raises BadInput as `train_networks` does. Nothing is written.
    """
    dataset = load_dataset(job.dataset, job.channels)
    network, job = plan(job, dataset)
    prefix = _prefix(job, network, dataset)
    recipe, seeds = job.recipe(prefix), job.seeds
    at_once = min(job.seed_batch or seeds_that_fit(network, recipe), len(seeds))
    step, evaluation = timing.seconds(network, recipe, dataset, seeds[:at_once])
    groups, steps = -(-len(seeds) // at_once), steps_per_epoch(dataset, recipe)
    yield {
        "model": job.model,
        "parameters": cost.parameters(network),
        "multiply_adds": cost.multiply_adds(network),
        "epochs": recipe.epochs,
        "steps": recipe.epochs * steps,
        "seeds": len(seeds),
        "seeds_at_once": at_once,
        "step_seconds": round(step, 4),
        "seconds": round(groups * recipe.epochs * (steps * step + evaluation), 1),
        "memory_mb": round(at_once * bytes_per_seed(network, recipe) / 1e6),
        "disk_mb": round(job.folder(dataset).bytes(network, recipe) / 1e6, 1),
    }


def plan(job: TrainingJob, dataset: Dataset) -> tuple[Network, TrainingJob]:
    """Return the network that a job trains, and the job with all defaults filled in."""
    job = job.filled(dataset)
    assert job.augment is not None and job.epochs is not None  # see `filled`
    augment.parse(job.augment)
    network = models.build(job.architecture(dataset))
    weights.select(network.trained, job.freeze)
    job.kept_epochs()  # raises before training if an epoch does not exist
    if job.activations is None:
        stored = cost.FLOAT_BYTES * len(dataset.test.labels) * cost.layer_activations(network)
        job = replace(job, activations=stored <= STORED_BYTES)
    return network, job


def _record(folder: Folder, file: NetworkFile) -> dict:
    """Return the record of a network."""
    last = {name: float(values[-1]) if len(values) else None for name, values in file.history.items()}
    return {
        "path": str(folder.file(file.seed)),
        "seed": file.seed,
        "status": file.status,
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "train_loss": last.get("train_loss"),
    }


def _prefix(job: TrainingJob, network: Network, dataset: Dataset) -> Prefix | None:
    """Return the layers of the donor that a job names, None if it names none."""
    if job.donor is None:
        return None
    assert job.freeze_prefix is not None  # see `require_consistent`
    return checkpoint.load_prefix(job.donor, network, dataset, job.freeze_prefix)


def _transplant(
    donor: str | None, globs: Sequence[str], network: Network, prefix: Prefix | None
) -> Callable[[dict], None]:
    """Return a function that copies a network's weights, then a donor's layers, into a seed's initial arrays."""
    arrays: dict = {}
    if donor is not None:
        file = load_network(donor)
        arrays = file.weights | file.state
        weights.transplant(
            weights.initial(network, 0), arrays, globs, donor
        )  # raises before training if they do not fit

    def adjust(initial: dict) -> None:
        if donor is not None:
            weights.transplant(initial, arrays, globs, donor)
        if prefix:
            for path, values in prefix.arrays.items():
                initial[path][...] = values

    return adjust
