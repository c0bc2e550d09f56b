"""Loss and accuracy of networks on a split, in bounded memory."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from basiscli import kernels
from basiscli.data import Split
from basiscli.device import placement
from basiscli.device.program import Memory, Program, fits_alone
from basiscli.nn import cost
from basiscli.nn.frozen_split import FrozenSplit
from basiscli.nn.graph import Network, forward
from basiscli.nn.ops import cross_entropy
from basiscli.training.images import Standardisation, batch


class Evaluation:
    """Networks, arrays (S, ...), on a split: as often as they have changed, with a program that stays.

    With the networks' frozen split, what all seeds share is worked out once. `memory` is that of programs that never
    run at the same time.
    """

    def __init__(
        self,
        network: Network,
        arrays: Mapping[str, np.ndarray],
        split: Split,
        standard: Standardisation,
        frozen_split: FrozenSplit | None = None,
        memory: Memory | None = None,
    ):
        arrays = placement.tree_to_device(arrays)
        first = next(iter(arrays.values()))
        self._network, self._dtype, self._seeds = network, first.dtype, len(first)
        self._split, self._standard, self._frozen = split, standard, frozen_split
        self._size = min(cost.evaluated_at_once(network), len(split.labels))
        kinds = {"loss": np.float64, "hits": np.int64, "alive": np.bool_}
        self._sums = {name: placement.to_device(np.zeros(self._seeds, kind)) for name, kind in kinds.items()}
        shared = frozen_split is not None and frozen_split.shared
        self._alone = not shared and fits_alone(first, 2 * self._size * cost.activations(network))
        self._program = Program(
            self._show, {**arrays, **self._sums}, self._seeds, self._alone, memory=memory, captured=False
        )

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean loss (S,) and the accuracy (S,), on the host."""
        for values in self._sums.values():
            values[...] = 0
        for inputs in self._batches:
            self._program.run(inputs)
        count = len(self._split.labels)
        return tuple(placement.to_host(self._sums[name]) / count for name in ("loss", "hits"))

    @cached_property
    def _batches(self) -> list[tuple[np.ndarray, ...]]:
        """Indices (rows, steps, N), moves and labels: of whole batches, then of a smaller one.

        There is one row for all seeds, unless these are shown without waiting for each other.
        """
        rows, index = self._seeds if self._alone else 1, np.arange(len(self._split.labels))
        whole = len(index) // self._size * self._size
        parts = (index[:whole].reshape(-1, self._size), index[None, whole:])
        return [tuple(np.repeat(v[None], rows, axis=0) for v in self._inputs(part)) for part in parts if part.size]

    def _inputs(self, index: np.ndarray) -> Iterator[np.ndarray]:
        inputs = (index, np.zeros((*index.shape, 2), np.int64), self._split.labels[index])
        on_gpu = self._seeds and kernels.on_gpu(self._sums["loss"])
        return (placement.to_device(values.astype(np.int32)) if on_gpu else values for values in inputs)

    def _show(self, arrays, chosen, moves, labels) -> None:
        images = batch(self._split, chosen, moves, self._standard).astype(self._dtype, copy=False)
        if self._frozen:
            logits = forward(self._frozen.above, arrays, self._frozen.features(images))[0]
        else:
            logits = forward(self._network, arrays, images)[0]
        loss, hits, _ = cross_entropy.forward(logits, labels)
        sums = (arrays[name] for name in ("alive", "loss", "hits"))
        kernels.of(logits).account(loss, hits, labels.shape[1], *sums)


def evaluate(
    network: Network, arrays: Mapping[str, np.ndarray], split: Split, standard: Standardisation
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean loss (S,) and the accuracy (S,) of networks on a split, on the host."""
    return Evaluation(network, arrays, split, standard)()
