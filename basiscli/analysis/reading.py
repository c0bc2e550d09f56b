"""Reading sources: chunks of rows of several layers, ahead of their use, and the positions that become rows.

A source is anything with the attributes of `basiscli.files.source.Source`: path, layers, samples, copies, groups,
stored, chunks, read.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basiscli.errors import BadInput
from basiscli.rng import generator

CHUNK_BYTES = 4 << 20  # of each network's activations read at a time
COMPUTED_BYTES = 32 << 20  # of activations computed at a time: batches of a few images would waste the kernels
CHUNK_SAMPLES = 8192  # at most


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


def chunks_of(sources: Sequence, layers: dict[str, tuple[int, ...]]) -> Iterator[dict[int, dict[str, np.ndarray]]]:
    """Yield the arrays of the same samples for each source that has one of the layers, by the source's number."""
    wanted = {
        k: [layer for layer, networks in layers.items() if k in networks] for k in sorted(set().union(*layers.values()))
    }
    probes = [next(iter(sources[k].chunks(names, 1))) for k, names in wanted.items()]
    largest = max(sum(array.nbytes for array in arrays.values()) for arrays in probes)
    budget = CHUNK_BYTES if all(source.stored for source in sources) else COMPUTED_BYTES
    size = min(max(budget // largest, 1), CHUNK_SAMPLES)
    for arrays in zip(*(sources[k].chunks(names, size) for k, names in wanted.items()), strict=True):
        yield dict(zip(wanted, arrays, strict=True))


def ahead(items: Iterable) -> Iterator:
    """Yield the items, each made in a second thread while the one before is used."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, iterator, end)
            yield item


def where(source, layer: str) -> str:
    """Name a layer of a source in a message; an array, whose only layer has no name, is named by its path."""
    return f"{source.path}: layer {layer}" if layer else source.path


def require_finite(place: str, not_finite: int) -> None:
    """Raise BadInput, with the place, if there were activations that are not finite."""
    if not_finite:
        raise BadInput(
            f"{place}: {not_finite:,} activations are NaN or infinite; leave the layer or the network out, "
            "or record it again"
        )
