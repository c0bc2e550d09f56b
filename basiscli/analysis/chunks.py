"""Chunks of samples of many sources, read together: their size, the rows taken of them, and the half of each sample."""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basiscli.analysis import moments
from basiscli.analysis.blocks import Costs
from basiscli.rng import generator

CHUNK_BYTES = 4 << 20  # of each network's activations read at a time
COMPUTED_BYTES = 32 << 20  # of activations computed at a time: batches of a few images would waste the kernels
ALL_CHUNKS_BYTES = 256 << 20  # of the chunks of all networks, of which each still gets SMALLEST_CHUNK of the above
SMALLEST_CHUNK = 1 / 8
CHUNK_SAMPLES = 8192  # at most


def chunk_size(sources: Sequence, wanted: dict[int, list[str]], full: bool, nested: bool) -> tuple[int, Costs]:
    """Return the samples of a chunk, which all networks together decide, and what blocks will cost."""
    probes = [next(iter(sources[k].chunks(names, 1))) for k, names in sorted(wanted.items())]
    largest = max(sum(array.nbytes for array in arrays.values()) for arrays in probes)
    budget = CHUNK_BYTES if all(source.stored for source in sources) else COMPUTED_BYTES
    budget = min(budget, max(ALL_CHUNKS_BYTES // len(probes), int(SMALLEST_CHUNK * budget)))
    size = min(max(budget // largest, 1), CHUNK_SAMPLES)
    samples = max(sources[k].samples[names[0]] for k, names in wanted.items())
    positions = max(math.prod(array.shape[1:-1]) for arrays in probes for array in arrays.values())
    return size, Costs(full, nested, min(size, samples) * largest, samples * positions)


def read(sources: Sequence, to_read: dict[int, list[str]], size: int) -> Iterator[dict[int, dict[str, np.ndarray]]]:
    """Yield the arrays of the same samples for each source, by the source's number."""
    for arrays in zip(*(sources[k].chunks(names, size) for k, names in to_read.items()), strict=True):
        yield dict(zip(to_read, arrays, strict=True))


def of_source(source, layers: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of some layers of one source, the same samples of all."""
    wanted = {0: list(layers)}
    size, _ = chunk_size([source], wanted, full=False, nested=False)
    for chunk in read([source], wanted, size):
        yield chunk[0]


def ahead(items: Iterable) -> Iterator:
    """Yield the items, each made in a second thread while the one before is used."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, iterator, end)
            yield item


def part_of(source, layer: str, seed: int) -> np.ndarray:
    """Return the part of each sample, as `moments.parts`; all samples of one image are in the same part."""
    if source.groups is None:
        return moments.parts(source.samples[layer], source.copies, seed)
    ids, which = np.unique(source.groups, return_inverse=True)
    return moments.parts(len(ids), 1, seed)[which]


def rows_per_image(source, layer: str, rows: int) -> int:
    """Return the rows of one image; of groups of several sizes the mean, rounded up: rather too few images."""
    if source.groups is None:
        return source.copies * rows // source.samples[layer]
    return -(-rows // len(np.unique(source.groups)))


def take_positions(array: np.ndarray, positions: str | int, seed: int) -> np.ndarray:
    """Return the activations (n, ..., U) of some positions, or of their mean, as (n, rows, U)."""
    flat: NDArray[Any] = array.reshape(len(array), -1, array.shape[-1])
    count = flat.shape[1]
    if positions == "mean":
        return flat.mean(axis=1, keepdims=True)
    if isinstance(positions, str) or positions >= count:
        return flat
    return flat[:, np.sort(generator(seed, "positions", count).choice(count, positions, replace=False))]


def describe_positions(shape: tuple[int, ...], positions: str | int) -> str:
    """Say which positions of a sample, of this shape, became rows: 64, mean of 64, 16 of 64."""
    count = math.prod(shape)
    if positions == "mean" and count > 1:
        return f"mean of {count}"
    return f"{count}" if isinstance(positions, str) or positions >= count else f"{positions} of {count}"
