"""Batches of images: standardised, shifted, gathered where the work is done."""

from dataclasses import dataclass

import numpy as np

from basiscli import kernels
from basiscli.data import Dataset, Split
from basiscli.device import placement
from basiscli.training import augment
from basiscli.training.recipe import Recipe

# The nine shifts by at most one pixel, no shift among them.
SHIFTS = np.array([(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)], np.int64)


@dataclass(frozen=True)
class Standardisation:
    """What images are standardised with: mean and inverse deviation of each channel over the training images, (C,)."""

    mean: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray) -> "Standardisation":
        """Return the standardisation of a data set's training images (M, H, W, C)."""
        axes = (0, 1, 2)
        mean, deviation = images.mean(axis=axes, dtype=np.float64), images.std(axis=axes, dtype=np.float64)
        return cls(mean.astype(np.float32), (1 / np.where(deviation > 0, deviation, 1)).astype(np.float32))


def items(split: Split, augmentation: str) -> int:
    """Return how many images an epoch visits."""
    return len(split.labels) * (len(SHIFTS) if augmentation == augment.ALL_SHIFTS else 1)


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Return how many batches an epoch has; the last one may be smaller."""
    return -(-items(dataset.train, recipe.augment) // recipe.batch_size)


def batch(split: Split, chosen: np.ndarray, moves: np.ndarray, standard: Standardisation, hole: int = 0) -> np.ndarray:
    """Return standardised images (S, N, H, W, C) for indices (S, N), moves (S, N, 2 or 5) and the side of a hole.

    They are where the work is done (`backend`).
    """
    images, mean, inverse = (
        placement.to_device_cached(array) for array in (split.images, standard.mean, standard.inverse)
    )
    return kernels.of(mean).gather(images, placement.to_device(chosen), placement.to_device(moves), mean, inverse, hole)


def probe_batch(
    split: Split, standard: Standardisation, rows: range, shifted: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a split as one shared batch, images (1, n, H, W, C) where the work is done, and labels (1, n).

    Of a shifted probe row i is image i // 9 moved by the (i % 9)-th of the nine shifts.
    """
    index = np.arange(rows.start, rows.stop)
    copies = len(SHIFTS) if shifted else 1
    moves = SHIFTS[index % copies] if shifted else np.zeros((len(index), 2), np.int64)
    chosen = index // copies
    return batch(split, chosen[None], moves[None], standard), split.labels[chosen][None]
