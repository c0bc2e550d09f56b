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
from basiscli.device.program import Memory, Program, fits_alone
from basiscli.nn import cost, weights
from basiscli.nn.frozen_split import FrozenSplit
from basiscli.nn.graph import Network, backward, forward
from basiscli.nn.ops import cross_entropy
from basiscli.rng import generator
from basiscli.training import augment, optim
from basiscli.training.evaluation import Evaluation
from basiscli.training.images import SHIFTS, Standardisation, batch, items, probe_batch, steps_per_epoch
from basiscli.training.pace import Pace
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
        standard: Standardisation | None = None,
    ) -> "Run":
        """Return a run at its beginning; `adjust` may change each seed's initial arrays in place (a transplant).

        standard: how images are standardised; None: by mean and deviation of the training images.
        """
        layout = weights.layout(network, frozen_paths(network, recipe))
        theta: np.ndarray = np.zeros((len(seeds), layout.size), dtype)
        state = _empty_state(network, len(seeds), dtype)
        arrays = layout.views(theta) | state
        for s, seed in enumerate(seeds):
            drawn = weights.initial(network, recipe.stream_seed("init", seed))
            adjust(drawn)
            for path, values in drawn.items():
                arrays[path][s] = values
        theta = placement.to_device(theta)
        arrays = layout.views(theta) | placement.tree_to_device(state)
        loss, hits = (placement.to_device(np.zeros(len(seeds), kind)) for kind in (np.float64, np.int64))
        return cls(
            network, recipe, dataset, standard or Standardisation.of(dataset.train.images), tuple(seeds), layout, theta,
            arrays,
            optim.slots(recipe.optimizer, theta), placement.to_device(np.ones(len(seeds), bool)), Totals(loss, hits),
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
        return different, np.array([different.index(seed) for seed in self.seeds])

    @cached_property
    def frozen_split(self) -> FrozenSplit:
        """The networks, split below the lowest trained node: the frozen part runs in inference, also in training."""
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

    def train_epoch(
        self,
        stop: Callable[[], bool] | None = None,
        tick: Callable[[int], None] | None = None,
        pause: float = 0.0,
    ) -> bool:
        """Train to the end of the epoch and evaluate; False if `stop()` said so after some step.

        `tick` is called with the number of steps done since it was last, and `stop` asked after it: after every step,
        or after steps that take about `pause` seconds. A seed whose loss is not finite is not updated from then on.
        """
        for inputs in self._batches():
            done, steps = 0, inputs[0].shape[1]
            while done < steps:
                count = min(self._pace.steps(pause), steps - done) if stop or tick else steps
                with self._pace.measured(count):
                    self._program.run([values[:, done : done + count] for values in inputs])
                self.totals.samples += count * inputs[0].shape[2]
                self.step, done = self.step + count, done + count
                if tick:
                    tick(count)
                if stop and stop():
                    return False
        self._close_epoch()
        return True

    @cached_property
    def _pace(self) -> "Pace":
        return Pace()

    @cached_property
    def _program(self) -> Program:
        """What trains on batches."""
        self.cache  # noqa: B018  (worked out now: a program only launches work)
        arrays = {"theta": self.theta, "gradient": np.zeros_like(self.theta), "alive": self.alive}
        arrays |= {"loss": self.totals.loss, "hits": self.totals.hits, **self.optimizer}
        arrays |= {path: self.arrays[path] for path in self.network.weights if path not in self.layout.slots}
        alone = fits_alone(self.theta, 2 * self.recipe.batch_size * cost.activations(self.network))
        return Program(self._train_step, arrays, len(self.seeds), alone, self._memory)

    @cached_property
    def _memory(self) -> Memory:
        return Memory()

    @cached_property
    def _evaluations(self) -> dict[int, Evaluation]:
        return {}

    def _batches(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the inputs of the remaining steps of the epoch: of all whole batches, then of a smaller one.

        They are items (D, steps, N), moves (D, steps, N, 2 or 5), labels (S, steps, N), rates and numbers of the steps,
        from 1, (S, steps). D is S, or counts the different seeds where these pass a shared frozen bottom once. All of
        it is where the work is done.
        """
        split, recipe, (different, of) = self.dataset.train, self.recipe, self.drawn
        count, size = items(split, recipe.augment), recipe.batch_size
        order = [generator(recipe.stream_seed("order", s), "order", self.epoch).permutation(count) for s in different]
        chosen, moves = self._augmented(np.stack(order))
        labels = split.labels[chosen]
        if self.cache and self._shifted:
            chosen = chosen * len(SHIFTS) + (moves[..., 0] + 1) * 3 + moves[..., 1] + 1
        if of is not None:
            labels = labels[of]
            chosen, moves = (chosen, moves) if self._shows_each_seed_once else (chosen[of], moves[of])
        per_item = [self._placed(values) for values in (chosen, moves, labels)]
        schedule = np.array(self._schedule(), np.float64).T
        per_step = [placement.to_device(np.tile(values, (len(self.seeds), 1))) for values in schedule]
        whole, steps = count // size, schedule.shape[1]
        for begin, end, samples in ((self.step, whole, size), (max(self.step, whole), steps, count - whole * size)):
            if begin < end:
                part = slice(begin * size, begin * size + (end - begin) * samples)
                cut = [values[:, part] for values in per_item]
                yield (
                    *(values.reshape(len(values), end - begin, samples, *values.shape[2:]) for values in cut),
                    *(values[:, begin:end] for values in per_step),
                )

    @property
    def _shows_each_seed_once(self) -> bool:
        """Whether images are gathered once for networks of the same seed: they pass a shared frozen bottom then."""
        return self.frozen_split.shared and not self.cache

    def _placed(self, values: np.ndarray) -> np.ndarray:
        """Return integers of an epoch where the work is done, in the type that its kernels read."""
        return placement.to_device(values.astype(np.int32)) if kernels.on_gpu(self.theta) else values

    def _schedule(self) -> list[tuple[float, int]]:
        """Return learning rate and number of each step of the epoch."""
        recipe, per_epoch = self.recipe, steps_per_epoch(self.dataset, self.recipe)
        total, warmup = recipe.epochs * per_epoch, round(recipe.warmup * per_epoch)
        numbers = range(self.epoch * per_epoch, (self.epoch + 1) * per_epoch)
        return [(optim.rate(recipe.schedule, recipe.lr, number, total, warmup), number + 1) for number in numbers]

    def _features(self, chosen: np.ndarray, moves: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the networks above the frozen bottom read (S, N, ...), from the cache if there is one."""
        if self.cache:
            return {name: kernels.of(table).rows(table, chosen) for name, table in self.cache.items()}
        of = self.drawn[1] if self._shows_each_seed_once else None
        if of is not None:
            of = placement.to_device_cached(of)
        return self.frozen_split.features(self._images(chosen, moves), of)

    def _images(self, chosen: np.ndarray, moves: np.ndarray) -> np.ndarray:
        """Return the images of a batch (D, N, H, W, C)."""
        hole = augment.hole(augment.parse(self.recipe.augment), self.dataset.train.images.shape[1:3])
        images = batch(self.dataset.train, chosen, moves, self.standard, hole)
        return images.astype(self.theta.dtype, copy=False)

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

    def _train_step(self, arrays, chosen, moves, labels, rate, number) -> None:
        """Train on a batch; `arrays` holds all that changes."""
        recipe, network, kernel = self.recipe, self.frozen_split.above, kernels.of(self.theta)
        theta, gradient = arrays["theta"], arrays["gradient"]
        dweights = self.layout.views(gradient)
        dweights = {path: dweights[path] for path in self.layout.trained_paths()}
        features = self._features(chosen, moves)
        logits, _, caches = forward(network, {**arrays, **self.layout.views(theta)}, features, train=True)
        loss, hits, dlogits = cross_entropy.forward(logits, labels, recipe.label_smoothing)
        samples = labels.shape[1]
        factor = kernel.account(loss, hits, samples, arrays["alive"], arrays["loss"], arrays["hits"])
        backward(network, caches, cross_entropy.backward(dlogits), dweights)
        if recipe.clip is not None:
            optim.clip(factor, gradient, self.layout.trained, recipe.clip)
        optim.step(
            recipe.optimizer, theta, gradient, arrays, self.layout, factor, rate, number,
            momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay,
        )  # fmt: skip

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
        if id(split) not in self._evaluations:
            # It holds the split, so that no other one gets its number.
            self._evaluations[id(split)] = Evaluation(
                self.network, self.arrays, split, self.standard, self.frozen_split, self._memory
            )
        return self._evaluations[id(split)]()


def bytes_per_seed(network: Network, recipe: Recipe) -> int:
    """Return about how much memory one more seed takes."""
    return cost.training_bytes(network, recipe.batch_size, len(optim.SLOTS[recipe.optimizer]))


def _empty_state(network: Network, seeds: int, dtype: type) -> dict[str, np.ndarray]:
    return {
        path: np.zeros((seeds, *weight.shape), dtype) for path, weight in network.weights.items() if not weight.trained
    }
