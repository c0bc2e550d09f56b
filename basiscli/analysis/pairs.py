"""From moments to scores: every pair of networks of a layer, on all cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from basiscli.analysis import correlate, moments
from basiscli.analysis.passes import LayerMoments


@dataclass(frozen=True)
class LayerPair:
    """The scores of layers of sources a and b, and their moments as in `LayerMoments`. layers: of a and of b."""

    layers: tuple[str, str]
    a: int
    b: int
    scores: correlate.Scores
    halves: tuple[moments.Moments, ...]
    nested: tuple[tuple[moments.Moments, ...], ...] = ()

    @property
    def layer(self) -> str:
        """The layer of a."""
        return self.layers[0]


def compare_pairs(layer: LayerMoments, drop_dead: bool = False) -> Iterator[LayerPair]:
    """Yield the scores of every pair of networks of one layer, computed on all cores.

    A single network is paired with itself, which needs its full second moments.
    """

    def score(pair: tuple[int, int], spread: Callable = map) -> LayerPair:
        i, j = pair
        halves = tuple(half.pair(i, j) for half in layer.halves)
        scores = correlate.compare(halves, drop_dead, spread)
        nested = tuple(tuple(part.pair(i, j) for part in of_half) for of_half in layer.nested)
        a, b = layer.members[i], layer.members[j]
        return LayerPair((a.layer, b.layer), a.source, b.source, scores, halves, nested)

    if len(layer.pairs) > 1:
        yield from parallel(score, layer.pairs)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            yield score(layer.pairs[0], pool.map)


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
