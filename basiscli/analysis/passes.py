"""From activations to moments: passes over the activations of networks, layer by layer, within a given memory.

A source is anything with the attributes of `basiscli.files.activations.Source`: path, layers, samples, copies, groups,
stored, held, chunks.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from basiscli.analysis import blocks, checks, chunks, moments
from basiscli.analysis.accumulator import Accumulator
from basiscli.analysis.blocks import Block, Comparison, Costs, Member
from basiscli.device import memory, placement
from basiscli.errors import BadInput

# The part of the free memory that moments may take.
FREE_PART = 0.75
# Tables of correlations that a core needs to score a pair, results that wait included.
SCORING_TABLES = 16
MEGABYTE = 1 << 20
# Advice on memory exceeds the bytes that are counted by so much.
SPARE_MEGABYTES = 32


@dataclass(frozen=True)
class Reading:
    """How activations become moments.

    positions: the rows of a convolution: "all" positions, their "mean", or a number of positions, drawn once for all
    images. full, norms: as `accumulator.Accumulator` takes them. nested: also the moments of smaller parts of the
    halves, for three times the memory. memory: bytes that the process may take (None: most of the free memory); less
    memory costs time, since sources are read again, and changes no bit of a result.
    """

    seed: int
    full: bool = False
    positions: str | int = "all"
    norms: bool = False
    nested: bool = False
    memory: int | None = None


@dataclass(frozen=True)
class Compared:
    """What is the same for all pairs of a layer.

    members: all layers that are compared, in order. widest: the most units. rows: of all samples. rows_per_image: rows
    of one original image, over its copies and positions. positions: in words, the positions of a sample that became
    rows.
    """

    layer: str
    members: tuple[Member, ...]
    widest: int
    rows: int
    rows_per_image: int
    positions: str

    @property
    def networks(self) -> tuple[int, ...]:
        """The numbers of the sources."""
        return tuple(member.source for member in self.members)


@dataclass(frozen=True)
class LayerMoments:
    """The moments of one layer over networks that have it, for each half of the samples that is not empty.

    They are all networks of the layer, or a block of them (`blocks.Block`). members: the networks of these moments.
    pairs: places in `members`. nested: for each half the moments of a quarter and of a half of its samples; empty
    unless requested. completes: no later block has pairs of these rows.
    """

    compared: Compared
    members: tuple[Member, ...]
    pairs: tuple[tuple[int, int], ...]
    halves: tuple[moments.Moments, ...]
    nested: tuple[tuple[moments.Moments, ...], ...] = ()
    completes: bool = True

    @property
    def layer(self) -> str:
        """The name of the layer."""
        return self.compared.layer

    @property
    def networks(self) -> tuple[int, ...]:
        """The numbers of the sources of its members."""
        return tuple(member.source for member in self.members)


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
    reading: Reading,
    star: bool = False,
    failed: Callable[[str, BadInput], object] = refuse,
) -> Iterator[LayerMoments]:
    """Yield the moments of every shared layer; if memory does not hold all networks of a layer, block by block.

    Stored activations are read a layer at a time, so that memory holds the moments of one layer. If any source has to
    compute its activations, all layers with the same number of samples are read in one pass, as far as memory holds
    the moments of all of them.

    star: only the pairs of the first source with each other one. failed(layer, reason): called for each layer that
    cannot be compared; the other layers go on. By default it raises the reason.
    """
    shared = shared_layers(sources)
    counted: dict[int, list[Comparison]] = {}
    for layer, networks in shared.items():
        try:
            counted.setdefault(checks.common_samples(sources, layer, networks), []).append(
                (blocks.star if star else blocks.every_pair)(layer, [member(sources, k, layer) for k in networks])
            )
        except BadInput as error:
            failed(layer, error)
    one_by_one = all(source.stored for source in sources)
    for comparisons in counted.values():
        for together in [[comparison] for comparison in comparisons] if one_by_one else [comparisons]:
            yield from comparison_moments(sources, together, reading, failed)


def member(sources: Sequence, number: int, layer: str) -> Member:
    """Return a layer of a source as a member of a comparison."""
    return Member(number, layer, sources[number].layers[layer], sources[number].held)


def comparison_moments(
    sources: Sequence,
    comparisons: Sequence[Comparison],
    reading: Reading,
    failed: Callable[[str, BadInput], object] = refuse,
) -> Iterator[LayerMoments]:
    """Yield the moments of comparisons, whose layers have the same samples; see `layer_moments`."""
    wanted: dict[int, list[str]] = {}
    for one in (one for comparison in comparisons for one in comparison.members):
        wanted.setdefault(one.source, []).append(one.layer)
    broken: set[str] = set()

    def fails(name: str, reason: BadInput) -> None:
        broken.add(name)
        failed(name, reason)

    with _attributed(comparisons, fails):
        size, costs = chunks.chunk_size(sources, wanted, reading.full, reading.nested)
        available = _available(comparisons, costs, reading.memory)
        files = memory.open_files()
        most = files if sum(sources[k].stored for k in wanted) > files else math.inf
        divided = [blocks.divide(comparison, costs, available, most) for comparison in comparisons]
    if broken:
        return
    for together in blocks.passes(divided, costs, available):
        together = [block for block in together if block.whole.name not in broken]
        if together:
            yield from _one_pass(sources, together, wanted, size, reading, fails)


def _available(comparisons: Sequence[Comparison], costs: Costs, most: int | None) -> float:
    """Return the bytes for moments, where the process may take `most` bytes.

    Raises BadInput if that is too little for the smallest block of a layer.
    """
    scoring = (os.cpu_count() or 1) * SCORING_TABLES * blocks.FLOAT64 * max(one.widest for one in comparisons) ** 2
    if most is None:
        return FREE_PART * placement.available_memory() - scoring
    taken = memory.resident() + scoring
    for comparison in comparisons:
        if taken + blocks.least(comparison, costs) > most:
            needed = math.ceil((taken + blocks.least(comparison, costs)) / MEGABYTE)
            raise BadInput(
                f"layer {comparison.name}: a pair of {comparison.widest:,} units needs {needed:,} MB: "
                f"give `memory` {needed + SPARE_MEGABYTES}M or more, or leave it out"
            )
    return most - taken


def estimate(units: Sequence[int], networks: int, rows: int) -> int:
    """Return about how many bytes all pairs of networks take, whose layers have so many units, in this much memory."""
    costs = Costs(full=True, nested=False, chunk=0, rows=rows)
    layers = [blocks.every_pair("", [Member(k, "", width) for k in range(networks)]) for width in units]
    whole = sum(costs.moments(layer, networks, networks, same=True) for layer in layers)
    return min(whole, int(FREE_PART * placement.available_memory()))


def _one_pass(
    sources: Sequence,
    together: Sequence[Block],
    wanted: dict[int, list[str]],
    size: int,
    reading: Reading,
    failed: Callable[[str, BadInput], object],
) -> Iterator[LayerMoments]:
    alive = {block.whole.name: block for block in together}  # failed ones are removed
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = {name: _accumulators(block, reading, pool.map) for name, block in alive.items()}
        try:
            shapes = _add_all(sources, alive, sums, _to_read(sources, together, wanted), size, reading, failed)
        except BadInput as error:
            if len(alive) > 1:
                raise
            for name in alive:
                failed(name, error)
            return
    for name, block in alive.items():
        try:
            yield _layer_moments(sources, block, sums.pop(name), shapes[name], reading)
        except BadInput as error:
            failed(name, error)


def _accumulators(block: Block, reading: Reading, spread: Callable) -> list[Accumulator]:
    return [
        Accumulator(len(block.members), reading.full, spread, block.products(), reading.norms, block.whole.grain)
        for _ in range(moments.PARTS if reading.nested else 2)
    ]


def _layer_moments(
    sources: Sequence, block: Block, parts: Sequence[Accumulator], shape: tuple[int, ...], reading: Reading
) -> LayerMoments:
    """Return the moments of a block. Raises BadInput for activations that are not finite or overflow."""
    halves, smaller = _halves([part.moments() if part.rows else None for part in parts])
    for k, one in enumerate(block.members):
        checks.require_finite(sources, one, sum(part.not_finite[k] for part in parts if part.rows))
    checks.require_range(sources, block.members, halves)
    whole, rows = block.whole, sum(half.rows for half in halves)
    compared = Compared(
        whole.name,
        whole.members,
        whole.widest,
        rows,
        chunks.rows_per_image(sources[whole.members[0].source], whole.members[0].layer, rows),
        chunks.describe_positions(shape, reading.positions),
    )
    pairs = tuple((i, j) for i, partners in block.products() for j in partners)
    ordered = tuple(sorted(pairs)) or ((0, 0),)
    return LayerMoments(compared, tuple(block.members), ordered, halves, smaller, block.completes)


def _to_read(sources: Sequence, together: Sequence[Block], wanted: dict[int, list[str]]) -> dict[int, list[str]]:
    """Return the layers to read of each source of some blocks.

    A network computes all layers of all blocks, so that its activations do not depend on the blocks in any bit.
    """
    needed: dict[int, list[str]] = {}
    for one in (one for block in together for one in block.members):
        needed.setdefault(one.source, []).append(one.layer)
    return {k: names if sources[k].stored else wanted[k] for k, names in sorted(needed.items())}


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
    alive: dict[str, Block],
    sums: dict[str, list[Accumulator]],
    to_read: dict[int, list[str]],
    size: int,
    reading: Reading,
    failed: Callable[[str, BadInput], object],
) -> dict[str, tuple[int, ...]]:
    """Read the sources once, add each layer's samples to its two halves, and return the positions' shape of a layer.

    A layer whose rows do not fit each other is taken out of `alive`.
    """
    one = next(iter(alive.values())).members[0]
    part_of = chunks.part_of(sources[one.source], one.layer, reading.seed)
    positioned = partial(chunks.take_positions, positions=reading.positions, seed=reading.seed)
    shapes = {}
    first = 0
    for chunk in chunks.ahead(chunks.read(sources, to_read, size)):
        for name, block in list(alive.items()):
            members = block.members
            arrays = [chunk[one.source][one.layer] for one in members]
            try:
                checks.require_same_rows(sources, members, arrays, reading.positions)
            except BadInput as error:
                failed(name, error)
                del alive[name]
                continue
            shapes[name] = arrays[0].shape[1:-1]
            last = first + len(arrays[0])
            arrays = list(map(positioned, arrays))
            if not first:
                for accumulator in sums[name]:
                    accumulator.begin(arrays)
            chosen = part_of[first:last] // (moments.PARTS // len(sums[name]))
            for part, accumulator in enumerate(sums[name]):
                accumulator.add(arrays, chosen == part)
        first += len(next(iter(next(iter(chunk.values())).values())))
    return shapes


@contextmanager
def _attributed(comparisons: Sequence[Comparison], failed: Callable[[str, BadInput], object]) -> Iterator[None]:
    """Let the only comparison fail with what is raised inside; of several comparisons, all fail."""
    try:
        yield
    except BadInput as error:
        if len(comparisons) > 1:
            raise
        failed(comparisons[0].name, error)
