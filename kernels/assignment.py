"""Linear assignment: rows and columns of a table, paired one to one, with the largest sum.

Shortest augmenting paths (Jonker and Volgenant 1987; rectangular tables: Crouse 2016). Every row has a column of its
own in the end, and every column a price. At each moment an assigned row gains most, r_ij minus the price of j, in its
own column, and a column without a row has price 0: that makes a complete assignment the best one.

`solve` here is numpy's; `basiscli.kernels.cpu.assignment` compiles the same steps, with the same result to the bit.
"""

import importlib
import sys
from itertools import count

import numpy as np

# Rows take columns from one another so often a row of the table; the rest is left to paths.
BIDS = 3
# numpy solves a table of fewer rows in some 3 ms; numba needs hardly any time, but 0.4 s for its import. So the first
# few small tables of a process are numpy's.
SMALL, FEW = 100, 20
_small_tables = count()


def assign(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows i, ascending, and columns π(i), one to one, with the largest Σ r_iπ(i).

    r (M, N), finite; all of the smaller side are paired. Sums are taken in float64. Raises ValueError for a number that
    is not finite.
    """
    table = np.ascontiguousarray(r, np.float64)
    height, width = table.shape
    if not np.isfinite(table).all():
        raise ValueError("the table of an assignment has numbers that are not finite")
    equal_rows, equal_columns = _equal_rows(table), _equal_rows(table.T)
    turned = height > width or (height == width and equal_columns.sum() > equal_rows.sum())
    if turned:
        table, equal_rows = np.ascontiguousarray(table.T), equal_columns
    columns = np.full(len(table), -1)
    _solver(table)(table, equal_rows, columns)
    if not turned:
        return np.arange(height), columns
    order = np.argsort(columns)
    return columns[order], order


def _equal_rows(table):
    """Return a mask of the rows that hold one number alone, as those of dead units do."""
    equal = np.zeros(len(table), bool)
    if table.size:
        some = np.flatnonzero(table[:, 0] == table[:, -1])
        equal[some] = (table[some] == table[some, :1]).all(axis=1)
    return equal


def _solver(table):
    if table.size < SMALL**2 and "numba" not in sys.modules and next(_small_tables) < FEW:
        return solve
    return importlib.import_module("basiscli.kernels.cpu.assignment").solve


def solve(r: np.ndarray, equal: np.ndarray, columns: np.ndarray) -> None:
    """Fill the column of each row, -1 before; r (M, N), M <= N. equal (M,): the rows that hold one number alone.

    Any column is as good as another for such a row (of a dead unit), so it takes one that is left in the end.
    """
    rows, prices = np.full(r.shape[1], -1), np.zeros(r.shape[1])
    left = list(np.flatnonzero(~equal))
    for _ in range(2):
        left = _bid(r, left, prices, columns, rows)
    for start in left:
        _augment(r, start, prices, columns, rows)
    columns[equal] = np.flatnonzero(rows < 0)[: np.count_nonzero(equal)]


def _bid(r, left, prices, columns, rows):
    """Let each row without a column take its best one, and raise that price as far as it stays the best.

    The row that had the column goes on at once, or waits for the next round where the column gained nothing. Returns
    the rows without a column.
    """
    bids, left = BIDS * len(r), left[::-1]
    later: list[int] = []
    while left:
        i = left.pop()
        losses = prices - r[i]
        j = int(np.argmin(losses))
        best = losses[j]
        losses[j] = np.inf
        second = losses.min()
        price = prices[j] + (second - best)
        raised = price > prices[j] and second < np.inf
        if raised:
            prices[j] = price
        elif rows[j] >= 0 and second < np.inf:
            j = int(np.argmin(losses))
        before, rows[j], columns[i] = rows[j], i, j
        if before < 0:
            continue
        columns[before] = -1
        bids -= 1
        (left if raised and bids > 0 else later).append(before)
    return later


def _augment(r, start, prices, columns, rows):
    """Give a row a column: along the shortest path to a column without a row, rows change columns."""
    distances, closed = np.full(len(prices), np.inf), np.zeros(len(prices))
    before = np.empty(len(prices), int)
    i, lead, seen = start, 0.0, []
    while True:
        reached = prices - r[i] + lead + closed
        shorter = reached < distances
        distances[shorter], before[shorter] = reached[shorter], i
        nearest = (distances + closed).min()
        j = _nearest(distances + closed, nearest, rows)
        i = rows[j]
        if i < 0:
            break
        closed[j] = np.inf
        seen.append(j)
        lead = nearest - (prices[j] - r[i, j])
    prices[seen] += nearest - distances[seen]
    while True:
        i = before[j]
        rows[j] = i
        columns[i], j = j, columns[i]
        if i == start:
            return


def _nearest(distances, nearest, rows):
    """Return a column at this distance, if there is one without a row."""
    ties = np.flatnonzero(distances == nearest)
    free = ties[rows[ties] < 0]
    return free[0] if len(free) else ties[0]
