"""From activations to scores: one pass over each network's activations, then every pair of networks, layer by layer.

A source is anything with the attributes of `basiscli.files.activations.Source`: path, layers, samples, copies, groups,
stored, chunks.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from basiscli.analysis import correlate, moments
from basiscli.analysis.accumulator import Accumulator
from basiscli.analysis.reading import ahead, chunks_of, describe_positions, require_finite, take_positions, where
from basiscli.errors import BadInput


@dataclass(frozen=True)
class LayerMoments:
    """The moments of one layer over the networks that have it, for each half of the samples that is not empty.

    networks: the numbers of the sources, in order. rows_per_image: rows of one original image, over its copies and
    positions. positions: in words, the positions of a sample that became rows. nested: for each half the moments of a
    quarter and of a half of its samples; empty unless requested.
    """

    layer: str
    networks: tuple[int, ...]
    halves: tuple[moments.Moments, ...]
    rows_per_image: int
    positions: str
    nested: tuple[tuple[moments.Moments, ...], ...] = ()


@dataclass(frozen=True)
class LayerPair:
    """The scores of one layer of sources a and b, and their moments as in `LayerMoments`."""

    layer: str
    a: int
    b: int
    scores: correlate.Scores
    halves: tuple[moments.Moments, ...]
    nested: tuple[tuple[moments.Moments, ...], ...] = ()


def shared_layers(sources: Sequence) -> dict[str, tuple[int, ...]]:
    """Return the layers that two or more sources have, each with these sources; of a single source, all layers.

    Raises BadInput if there is no such layer, or if the sources hold different copies of the images.
    """
    first = sources[0]
    for source in sources[1:]:
        if source.copies != first.copies:
            raise BadInput(
                f"{source.path} holds {source.copies} copies of each image, {first.path} {first.copies}: "
                "record both on the same inputs"
            )
    owners: dict[str, tuple[int, ...]] = {}
    for k, source in enumerate(sources):
        for layer in source.layers:
            owners[layer] = (*owners.get(layer, ()), k)
    shared = {layer: networks for layer, networks in owners.items() if len(networks) > 1 or len(sources) == 1}
    if not shared:
        listed = "; ".join(f"{source.path}: {', '.join(source.layers)}" for source in sources)
        raise BadInput(f"no layer in common ({listed}): name layers alike, or choose others with `layer`")
    return shared


def refuse(layer: str, reason: BadInput) -> None:
    """Raise the reason why a layer cannot be compared."""
    raise reason


def layer_moments(
    sources: Sequence,
    seed: int,
    full: bool = False,
    positions: str | int = "all",
    star: bool = False,
    norms: bool = False,
    nested: bool = False,
    failed: Callable[[str, BadInput], object] = refuse,
) -> Iterator[LayerMoments]:
    """Yield the moments of every shared layer, from one pass over each source.

    Stored activations are read a layer at a time, so that memory holds the moments of one layer. If any source has to
    compute its activations, all layers with the same number of samples are read in one pass, and memory holds the
    moments of all of them.

    positions: the rows of a convolution: "all" positions, their "mean", or a number of positions, drawn once for all
    images. full, star, norms: as `accumulator.Accumulator` takes them; with star, the hub is the first source. nested:
    also the moments of smaller parts of the halves, for three times the memory. failed(layer, reason): called for each
    layer that cannot be compared; the other layers go on. By default it raises the reason.
    """
    shared = shared_layers(sources)
    counted: dict[int, list[str]] = {}
    for layer, networks in shared.items():
        try:
            counted.setdefault(_samples(sources, layer, networks), []).append(layer)
        except BadInput as error:
            failed(layer, error)
    one_by_one = all(source.stored for source in sources)
    for together in counted.values():
        for layers in [[layer] for layer in together] if one_by_one else [together]:
            owners = {layer: shared[layer] for layer in layers}
            yield from _one_pass(sources, owners, seed, positions, nested, failed, full=full, star=star, norms=norms)


def _samples(sources: Sequence, layer: str, networks: Sequence[int]) -> int:
    """Return how many samples a layer has. Raises BadInput if the sources differ in it."""
    first = sources[networks[0]]
    for k in networks[1:]:
        if sources[k].samples[layer] != first.samples[layer]:
            raise BadInput(
                f"{sources[k].path}: layer {layer} has {sources[k].samples[layer]} samples, {first.path} has "
                f"{first.samples[layer]}: record both on the same inputs, or give `samples`"
            )
    return first.samples[layer]


def compare_pairs(layer: LayerMoments, drop_dead: bool = False) -> Iterator[LayerPair]:
    """Yield the scores of every pair of networks of one layer, computed on all cores.

    A single network is paired with itself, which needs its full second moments.
    """

    def score(pair: tuple[int, int], spread: Callable = map) -> LayerPair:
        i, j = pair
        halves = tuple(half.pair(i, j) for half in layer.halves)
        scores = correlate.compare(halves, drop_dead, spread)
        nested = tuple(tuple(part.pair(i, j) for part in of_half) for of_half in layer.nested)
        return LayerPair(layer.layer, layer.networks[i], layer.networks[j], scores, halves, nested)

    couples = list(combinations(range(len(layer.networks)), 2)) or [(0, 0)]
    if len(couples) > 1:
        yield from parallel(score, couples)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield score(couples[0], pool.map)


def parallel(function: Callable, items: Sequence) -> Iterator:
    """Yield function(item) in order, from one thread a core; at most two results a core wait to be taken.

    The assignments, where the time goes, run without the interpreter's lock.
    """
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        waiting = [pool.submit(function, item) for item in items[: 2 * cores]]
        for item in items[2 * cores :]:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(function, item))
        for future in waiting:
            yield future.result()


def _one_pass(
    sources: Sequence,
    layers: dict[str, tuple[int, ...]],
    seed: int,
    positions: str | int,
    nested: bool,
    failed: Callable[[str, BadInput], object],
    **kept: bool,
) -> Iterator[LayerMoments]:
    layers = dict(layers)  # failed layers are removed
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = {
            layer: [Accumulator(len(networks), spread=pool.map, **kept) for _ in range(moments.PARTS if nested else 2)]
            for layer, networks in layers.items()
        }
        try:
            shapes = _add_all(sources, layers, sums, seed, positions, failed)
        except BadInput as error:
            if len(layers) > 1:
                raise
            for layer in layers:
                failed(layer, error)
            return
    for layer, networks in layers.items():
        parts = sums.pop(layer)
        halves, smaller = _halves([part.moments() if part.rows else None for part in parts])
        try:
            for i, k in enumerate(networks):
                not_finite = sum(part.not_finite[i] for part in parts if part.rows)
                require_finite(where(sources[k], layer), not_finite)
            _check_range(sources, layer, networks, halves)
        except BadInput as error:
            failed(layer, error)
            continue
        rows_per_image = _rows_per_image(sources[networks[0]], layer, sum(half.rows for half in halves))
        yield LayerMoments(
            layer, networks, halves, rows_per_image, describe_positions(shapes[layer], positions), smaller
        )


def _halves(parts: Sequence[moments.Moments | None]) -> tuple[tuple, tuple]:
    """Return the moments of each half that is not empty, and of the parts nested in each, if there are such parts."""
    size = len(parts) // 2
    groups = [[part for part in parts[first : first + size] if part] for first in (0, size)]
    halves = tuple(moments.merge(group) for group in groups if group)
    if size == 1 or any(len(group) < size for group in groups):
        return halves, ()
    return halves, tuple((group[0], moments.merge(group[:2])) for group in groups)


def _add_all(
    sources: Sequence,
    layers: dict[str, tuple[int, ...]],
    sums: dict,
    seed: int,
    positions: str | int,
    failed: Callable[[str, BadInput], object],
) -> dict[str, tuple[int, ...]]:
    """Read the sources once, add each layer's samples to its two halves, and return the positions' shape of a layer.

    A layer whose rows do not fit each other is taken out of `layers`.
    """
    layer, networks = next(iter(layers.items()))
    part_of = _part_of(sources[networks[0]], layer, seed)
    shapes = {}
    first = 0
    for chunk in ahead(chunks_of(sources, dict(layers))):
        for layer, networks in list(layers.items()):
            arrays = [chunk[k][layer] for k in networks]
            try:
                _check_rows(sources, layer, networks, arrays, positions)
            except BadInput as error:
                failed(layer, error)
                del layers[layer]
                continue
            shapes[layer] = arrays[0].shape[1:-1]
            last = first + len(arrays[0])
            arrays = [take_positions(array, positions, seed) for array in arrays]
            if not first:
                for accumulator in sums[layer]:
                    accumulator.begin(arrays)
            chosen = part_of[first:last] // (moments.PARTS // len(sums[layer]))
            for part, accumulator in enumerate(sums[layer]):
                accumulator.add(arrays, chosen == part)
        first += len(next(iter(next(iter(chunk.values())).values())))
    return shapes


def _part_of(source, layer: str, seed: int) -> np.ndarray:
    """Return the part of each sample, as `moments.parts`; all samples of one image are in the same part."""
    if source.groups is None:
        return moments.parts(source.samples[layer], source.copies, seed)
    ids, which = np.unique(source.groups, return_inverse=True)
    return moments.parts(len(ids), 1, seed)[which]


def _rows_per_image(source, layer: str, rows: int) -> int:
    """Return the rows of one image; of groups of several sizes the mean, rounded up: rather too few images."""
    if source.groups is None:
        return source.copies * rows // source.samples[layer]
    return -(-rows // len(np.unique(source.groups)))


def _check_rows(
    sources: Sequence, layer: str, networks: Sequence[int], arrays: Sequence[np.ndarray], positions: str | int
) -> None:
    if positions == "mean":  # one row a sample, however many positions
        return
    for k, array in zip(networks, arrays, strict=True):
        if array.shape[:-1] != arrays[0].shape[:-1]:
            raise BadInput(
                f"{where(sources[k], layer)} has {_positions(array)} positions a sample, "
                f"{sources[networks[0]].path} has {_positions(arrays[0])}: compare layers of the same size"
            )


def _positions(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape[1:-1])) or "1"


def _check_range(sources: Sequence, layer: str, networks: Sequence[int], halves: Sequence[moments.Moments]) -> None:
    if not all(np.isfinite(table).all() for half in halves for table in (*half.own, *half.cross.values())):
        largest = max(range(len(networks)), key=lambda k: max(half.variances(k).max() for half in halves))
        raise BadInput(
            f"{where(sources[networks[largest]], layer)}: activations so large that products overflow; "
            "scale them and record again"
        )
