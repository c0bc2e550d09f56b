"""Training many seeds at once. S seeds, N samples of a batch, P parameters of a seed.

Everything has the seed axis first, and no number of one seed ever meets another's: `Run([0, 1, 2])` gives seed 1 what
`Run([1])` gives it, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from basiscli import kernels
from basiscli.data import Dataset, Split
from basiscli.device import placement
from basiscli.nn import cost, weights
from basiscli.nn.frozen_split import FrozenSplit
from basiscli.nn.graph import Network, backward, forward
from basiscli.nn.ops import cross_entropy
from basiscli.rng import generator
from basiscli.training import augment, optim
from basiscli.training.evaluation import evaluate
from basiscli.training.images import SHIFTS, Standardisation, batch, items, probe_batch, steps_per_epoch
from basiscli.training.recipe import Recipe

# Part of the free memory that the features of a frozen bottom may take.
CACHE_PART = 0.25


def frozen_paths(network: Network, recipe: Recipe) -> list[str]:
    """Return the paths of the weights that a recipe keeps as they start. Raises BadInput for a glob without a match."""
    kept = set(weights.select(network.trained, recipe.frozen))
    if recipe.prefix and not recipe.start_only:
        kept |= set(weights.prefix(network, recipe.prefix))
    return [path for path in network.trained if path in kept]


@dataclass
class Totals:
    """Sums of an unfinished epoch, for each seed."""

    loss: np.ndarray
    hits: np.ndarray
    samples: int = 0

    def clear(self) -> None:
        """Begin again; the arrays stay the same."""
        self.loss[...], self.hits[...], self.samples = 0, 0, 0


@dataclass
class Run:
    """Networks of several seeds in training; `epoch` and `step` say what comes next.

    A seed may come up more than once (networks that differ in what their arrays are set to after `start`): these see
    the same images in the same order, which are gathered, and pass a shared frozen bottom, once.
    """

    network: Network
    recipe: Recipe
    dataset: Dataset
    standard: Standardisation
    seeds: tuple[int, ...]
    layout: weights.Layout
    theta: np.ndarray
    arrays: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    alive: np.ndarray
    totals: Totals
    epoch: int = 0
    step: int = 0
    history: dict[str, list] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        network: Network,
        recipe: Recipe,
        dataset: Dataset,
        seeds: Sequence[int],
        adjust: Callable[[dict[str, np.ndarray]], None] = lambda arrays: None,
        dtype: type = np.float32,
    ) -> "Run":
        """Return a run at its beginning; `adjust` may change each seed's initial arrays in place (a transplant)."""
        layout = weights.layout(network, frozen_paths(network, recipe))
        theta = np.zeros((len(seeds), layout.size), dtype)
        state = _empty_state(network, len(seeds), dtype)
        arrays = layout.views(theta) | state
        for s, seed in enumerate(seeds):
            drawn = weights.initial(network, recipe.stream_seed("init", seed))
            adjust(drawn)
            for path, values in drawn.items():
                arrays[path][s] = values
        theta = placement.to_device(theta)
        arrays = layout.views(theta) | placement.tree_to_device(state)
        totals = Totals(*(placement.to_device(np.zeros(len(seeds), kind)) for kind in (np.float64, np.int64)))
        return cls(
            network, recipe, dataset, Standardisation.of(dataset.train.images), tuple(seeds), layout, theta, arrays,
            optim.slots(recipe.optimizer, theta), placement.to_device(np.ones(len(seeds), bool)), totals,
        )  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or no seed is left."""
        return self.epoch >= self.recipe.epochs or not self.alive.any()

    @cached_property
    def drawn(self) -> tuple[list[int], np.ndarray | None]:
        """The different seeds, and for each network the place of its own among them; None if no seed comes up twice."""
        different = list(dict.fromkeys(self.seeds))
        if len(different) == len(self.seeds):
            return different, None
        return different, placement.to_device(np.array([different.index(seed) for seed in self.seeds]))

    @cached_property
    def frozen_split(self) -> FrozenSplit:
        """The networks cut below what is trained: what is frozen there is in use, also in training."""
        return FrozenSplit.of(self.network, self.arrays, self.layout.trained_paths())

    @cached_property
    def cache(self) -> dict[str, np.ndarray]:
        """The features of a shared frozen bottom, for every image or for all its nine shifts; empty if it is no use.

        It is no use if images are moved otherwise, if the epochs left show fewer images than there are features, and
        if these would take more than CACHE_PART of the free memory.
        """
        split, copies = self.dataset.train, len(SHIFTS) if self._shifted else 1
        count = len(split.labels) * copies
        shown = (self.recipe.epochs - self.epoch) * items(split, self.recipe.augment) * len(self.seeds)
        known = self._shifted or self.recipe.augment == augment.NONE
        if not (known and self.frozen_split.shared and count <= shown):
            return {}
        if count * self.frozen_split.floats() * self.theta.itemsize > CACHE_PART * placement.available_memory():
            return {}
        size = cost.evaluated_at_once(self.network)
        rows = (range(start, min(start + size, count)) for start in range(0, count, size))
        images = (probe_batch(split, self.standard, part, self._shifted)[0] for part in rows)
        return self.frozen_split.table((part.astype(self.theta.dtype, copy=False) for part in images), count)

    @property
    def _shifted(self) -> bool:
        """Whether every image is seen in the nine shifts and in no other way."""
        return self.recipe.augment == augment.ALL_SHIFTS or augment.parse(self.recipe.augment) == ("shift",)

    def train_epoch(self, stop: Callable[[], bool] = lambda: False, tick: Callable[[], None] = lambda: None) -> bool:
        """Train to the end of the epoch and evaluate; False if `stop()` said so after some step.

        `tick` is called after every step. A seed whose loss is not finite is not updated from then on.
        """
        for chosen, moves, labels, rate, number in self._batches():
            self._step(chosen, moves, labels, rate, number)
            self.totals.samples += labels.shape[1]
            self.step += 1
            tick()
            if stop():
                return False
        self._close_epoch()
        return True

    @cached_property
    def _gradient(self) -> np.ndarray:
        return np.zeros_like(self.theta)

    @cached_property
    def _dweights(self) -> dict[str, np.ndarray]:
        views = self.layout.views(self._gradient)
        return {path: views[path] for path in self.layout.trained_paths()}

    @cached_property
    def _captured(self) -> Callable[..., None]:
        """What trains on one batch on a GPU: the step captured as a graph."""
        from basiscli.device.program import Captured

        self.cache  # noqa: B018  (worked out now: what is captured only launches work)
        return Captured()

    def _step(self, *batch) -> None:
        if kernels.on_gpu(self.theta):
            self._captured(self._train_step, *batch)
        else:
            self._train_step(*batch)

    def _batches(self) -> Iterator[tuple]:
        """Yield the remaining batches of the epoch: indices (D, N), moves (D, N, 2 or 5), labels (D, N), rate, number.

        D counts the different seeds; the number is that of the step, from 1. On a GPU all of it is there when the epoch
        begins, rate and number too.
        """
        split, recipe = self.dataset.train, self.recipe
        count = items(split, recipe.augment)
        order = np.stack(
            [generator(recipe.stream_seed("order", s), "order", self.epoch).permutation(count) for s in self.drawn[0]]
        )
        chosen, moves = self._augmented(order)
        labels, schedule = placement.to_device_cached(split.labels), self._schedule()
        if kernels.on_gpu(self.theta):
            chosen, moves = (placement.to_device(array.astype(np.int32)) for array in (chosen, moves))
            schedule = placement.to_device(np.array(schedule, np.float64))
        for step in range(self.step, len(schedule)):
            part = slice(step * recipe.batch_size, (step + 1) * recipe.batch_size)
            yield chosen[:, part], moves[:, part], labels[chosen[:, part]], *schedule[step]

    def _schedule(self) -> list[tuple[float, int]]:
        """Return learning rate and number of each step of the epoch."""
        recipe, per_epoch = self.recipe, steps_per_epoch(self.dataset, self.recipe)
        total, warmup = recipe.epochs * per_epoch, round(recipe.warmup * per_epoch)
        numbers = range(self.epoch * per_epoch, (self.epoch + 1) * per_epoch)
        return [(optim.rate(recipe.schedule, recipe.lr, number, total, warmup), number + 1) for number in numbers]

    def _inputs(self, chosen: np.ndarray, moves: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Return images or their cached features (D, N, ...)."""
        if not self.cache:
            hole = augment.hole(augment.parse(self.recipe.augment), self.dataset.train.images.shape[1:3])
            return batch(self.dataset.train, chosen, moves, self.standard, hole)
        rows = chosen * len(SHIFTS) + (moves[..., 0] + 1) * 3 + moves[..., 1] + 1 if self._shifted else chosen
        return {name: table[rows] for name, table in self.cache.items()}

    def _augmented(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the image (S, M) and its moves (S, M, 2 or 5) for every item of the epoch, in order."""
        if self.recipe.augment == augment.ALL_SHIFTS:
            return order // len(SHIFTS), SHIFTS[order % len(SHIFTS)]
        names, size = augment.parse(self.recipe.augment), self.dataset.train.images.shape[1:3]
        streams = [
            partial(generator, self.recipe.stream_seed("augment", seed), "augment", self.epoch)
            for seed in self.drawn[0]
        ]
        return order, np.stack([augment.moves(names, size, order.shape[1], stream) for stream in streams])

    def _train_step(self, chosen, moves, labels, rate, number) -> None:
        recipe, network, (_, of), gradient = self.recipe, self.frozen_split.above, self.drawn, self._gradient
        inputs = self._inputs(chosen, moves)
        if self.cache:
            features = inputs if of is None else {name: values[of] for name, values in inputs.items()}
        else:
            features = self.frozen_split.features(inputs.astype(self.theta.dtype, copy=False), of)
        labels = labels if of is None else labels[of]
        logits, _, caches = forward(network, self.arrays, features, train=True)
        loss, hits, dlogits = cross_entropy.forward(logits, labels, recipe.label_smoothing)
        self.alive &= np.isfinite(loss)
        backward(network, caches, cross_entropy.backward(dlogits), self._dweights)
        factor = self.alive.astype(np.float64)
        if recipe.clip is not None:
            factor *= np.nan_to_num(optim.clip_factors(gradient, self.layout.trained, recipe.clip))
        optim.step(
            recipe.optimizer, self.theta, gradient, self.optimizer, self.layout, factor, rate, number,
            momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay,
        )  # fmt: skip
        self.totals.loss += loss * labels.shape[1]
        self.totals.hits += hits

    def _close_epoch(self) -> None:
        """Note the epoch's results in the history and go to the next one."""
        test_loss, test_accuracy = self.evaluate(self.dataset.test)
        row = {
            "train_loss": self.totals.loss / self.totals.samples,
            "train_accuracy": self.totals.hits / self.totals.samples,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }
        for name, values in row.items():
            self.history.setdefault(name, []).append(placement.to_host(values))
        self.totals.clear()
        self.epoch, self.step = self.epoch + 1, 0

    def evaluate(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """Return loss (S,) and accuracy (S,) on a split."""
        return evaluate(self.network, self.arrays, split, self.standard, self.frozen_split)


def bytes_per_seed(network: Network, recipe: Recipe) -> int:
    """Return about how much memory one more seed takes."""
    return cost.training_bytes(network, recipe.batch_size, len(optim.SLOTS[recipe.optimizer]))


def _empty_state(network: Network, seeds: int, dtype: type) -> dict[str, np.ndarray]:
    return {
        path: np.zeros((seeds, *weight.shape), dtype) for path, weight in network.weights.items() if not weight.trained
    }
