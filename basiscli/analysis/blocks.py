"""Which pairs of networks are worked off together, so that their moments fit into memory.

The networks of a layer form tiles, and tiles form groups. A block is the pairs of a group with itself or with another
group; its networks are read once. The products of a network with a tile are one product of matrices, in every division
into groups, so results do not depend on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from basiscli.analysis.accumulator import Grain
from basiscli.analysis.moments import PARTS

FLOAT64, FLOAT32 = 8, 4
# Networks form a tile until they have so many units.
TILE_UNITS = 1024
# Chunks of a network in memory: one is used, one waits, one is read.
CHUNKS = 3
# The moments of a block, two halves, and those of the block before, which are still in use.
TABLES = 4
# The same for moments of smaller parts of the halves.
NESTED_TABLES = 3 * PARTS


@dataclass(frozen=True)
class Member:
    """One layer of one source: its units, and the bytes that the source holds while it is read."""

    source: int
    layer: str
    units: int
    held: int = 0


@dataclass(frozen=True)
class Comparison:
    """The members that are compared: those numbered `rows`, each with the later ones numbered `columns`."""

    name: str
    members: tuple[Member, ...]
    rows: range
    columns: range

    @property
    def widest(self) -> int:
        """The most units of a member."""
        return max(member.units for member in self.members)

    @property
    def tile(self) -> int:
        """The number of members in a tile."""
        return max(1, TILE_UNITS // self.widest)

    @property
    def grain(self) -> Grain:
        """How the rows of all members are cut."""
        return Grain.of([member.units for member in self.members])


def every_pair(name: str, members: Sequence[Member]) -> Comparison:
    """Return the comparison of all pairs of members."""
    return Comparison(name, tuple(members), range(len(members)), range(len(members)))


def star(name: str, members: Sequence[Member]) -> Comparison:
    """Return the comparison of the first member with each of the others."""
    return Comparison(name, tuple(members), range(1), range(1, len(members)))


def across(name: str, first: Sequence[Member], second: Sequence[Member]) -> Comparison:
    """Return the comparison of each member of the first list with each of the second."""
    members = (*first, *second)
    return Comparison(name, members, range(len(first)), range(len(first), len(members)))


@dataclass(frozen=True)
class Block:
    """The pairs of a group of rows with a group of columns. completes: no later block has pairs of these rows."""

    whole: Comparison
    rows: range
    columns: range
    completes: bool

    @property
    def numbers(self) -> list[int]:
        """The numbers of its members in the comparison, in order."""
        return sorted({*self.rows, *self.columns})

    @property
    def members(self) -> list[Member]:
        """Its members, in order."""
        return [self.whole.members[number] for number in self.numbers]

    def products(self) -> list[tuple[int, range]]:
        """Return each row with its partners of a tile, as places in `members`."""
        place = {number: k for k, number in enumerate(self.numbers)}
        products = []
        for row in self.rows:
            for tile in _groups(self.columns, self.whole.tile):
                partners = range(max(tile.start, row + 1), tile.stop)
                if partners:
                    products.append((place[row], range(place[partners[0]], place[partners[-1]] + 1)))
        return products


@dataclass(frozen=True)
class Costs:
    """What the memory of a block depends on beside its networks.

    full: whether networks have full second moments of their own. nested: whether smaller parts of the halves have
    moments, too. chunk: bytes of a network's chunk, over all layers that are read together. rows: of the layer.
    """

    full: bool
    nested: bool
    chunk: int
    rows: int

    def of(self, comparison: Comparison, rows: int, columns: int, same: bool) -> int:
        """Return the bytes for a block of so many rows and columns, which may be the same networks."""
        return self.moments(comparison, rows, columns, same) + self.reading(comparison, rows, columns, same)

    def moments(self, comparison: Comparison, rows: int, columns: int, same: bool) -> int:
        """Return the bytes for the moments of a block, and for the rows that wait for a product."""
        units = comparison.widest
        networks, pairs = (rows, rows * (rows - 1) // 2) if same else (rows + columns, rows * columns)
        tables = NESTED_TABLES if self.nested else TABLES
        waiting = min(comparison.grain.block, self.rows) * (PARTS if self.nested else 2)
        return tables * FLOAT64 * units**2 * (pairs + self.full * networks) + networks * waiting * units * FLOAT32

    def reading(self, comparison: Comparison, rows: int, columns: int, same: bool) -> int:
        """Return the bytes that the sources of a block hold while they are read."""
        held = max(member.held for member in comparison.members)
        sources = len({member.source for member in comparison.members})
        return min(rows if same else rows + columns, sources) * (CHUNKS * self.chunk + held)


def divide(comparison: Comparison, costs: Costs, memory: float, most: float) -> list[Block]:
    """Return the blocks of a comparison: as large as fits into memory, of at most so many networks, if any is.

    In their order the first blocks hold every network, and the blocks of the same rows follow each other.
    """
    size = _group_size(comparison, costs, memory, most)
    rows, columns = _groups(comparison.rows, size), _groups(comparison.columns, size)
    blocks = []
    for group in rows:
        later = [other for other in columns if other.stop - 1 > group.start]
        blocks += [Block(comparison, group, other, other is later[-1]) for other in later]
    return blocks or [Block(comparison, comparison.rows, comparison.columns, True)]


def least(comparison: Comparison, costs: Costs) -> int:
    """Return the bytes of the smallest block."""
    rows, columns = (min(comparison.tile, len(numbers)) for numbers in (comparison.rows, comparison.columns))
    whole = rows == len(comparison.rows) and comparison.rows == comparison.columns
    return costs.of(comparison, rows, columns, same=whole)


def passes(divided: Sequence[Sequence[Block]], costs: Costs, memory: float) -> Iterator[list[Block]]:
    """Yield the blocks that are read together: comparisons of one block while their moments fit, else one block."""
    together: list[Block] = []
    for blocks in divided:
        if together and (len(blocks) > 1 or _bytes([*together, *blocks], costs) > memory):
            yield together
            together = []
        if len(blocks) > 1:
            yield from ([block] for block in blocks)
        else:
            together += blocks
    if together:
        yield together


def _bytes(blocks: Sequence[Block], costs: Costs) -> int:
    """Return the bytes of blocks that are read together."""
    sizes = [(block.whole, len(block.rows), len(block.columns), block.rows == block.columns) for block in blocks]
    return sum(costs.moments(*size) for size in sizes) + max(costs.reading(*size) for size in sizes)


def _group_size(comparison: Comparison, costs: Costs, memory: float, most: float) -> int:
    """Return the number of members in a group."""
    largest = max(len(comparison.rows), len(comparison.columns))
    rows, columns, same = len(comparison.rows), len(comparison.columns), comparison.rows == comparison.columns
    if costs.of(comparison, rows, columns, same) <= memory and len(comparison.members) <= most:
        return largest
    size = comparison.tile
    while size < largest:
        larger = size + comparison.tile
        rows, columns = min(larger, len(comparison.rows)), min(larger, len(comparison.columns))
        if rows + columns > most or costs.of(comparison, rows, columns, same=False) > memory:
            break
        size = larger
    return size


def _groups(numbers: range, size: int) -> list[range]:
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]
