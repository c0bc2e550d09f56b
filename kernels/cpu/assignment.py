"""`basiscli.kernels.assignment.solve`, compiled: the same steps in the same order, so the same columns."""

import numpy as np
from numba import njit

from basiscli.kernels.assignment import BIDS
from basiscli.kernels.cpu.compiling import serial

# LLVM takes the minimum of a vector in parallel only if it may ignore NaN and the sign of 0: no value changes by that.
_minima = njit(nogil=True, cache=True, fastmath={"nnan", "nsz"}, inline="never")


@serial
def solve(r, equal, columns):
    """Fill the column of each row, -1 before; see basiscli.kernels.assignment."""
    height, width = r.shape
    rows = np.full(width, -1)
    prices = np.zeros(width)
    left = np.empty(height, np.int64)
    waiting = 0
    for i in range(height):
        if not equal[i]:
            left[waiting] = i
            waiting += 1
    for _ in range(2):
        waiting = _bid(r, left, waiting, prices, columns, rows)
    _augment(r, left[:waiting], prices, columns, rows)
    j = 0
    for i in range(height):
        if equal[i]:
            while rows[j] >= 0:
                j += 1
            columns[i], rows[j] = j, i


@serial
def _bid(r, left, waiting, prices, columns, rows):
    """Let each row without a column take its best one, and raise that price as far as it stays the best.

    The row that had the column goes on at once, or waits for the next round where the column gained nothing. Returns
    how many rows have no column; they are the first ones of `left`.
    """
    losses = np.empty(len(prices))
    bids = BIDS * len(r)
    k, later = 0, 0
    while k < waiting:
        i = left[k]
        k += 1
        best = _losses(r[i], prices, losses)
        j = _place(losses, best)
        losses[j] = np.inf
        second = _smallest(losses)
        price = prices[j] + (second - best)
        raised = price > prices[j] and second < np.inf
        if raised:
            prices[j] = price
        elif rows[j] >= 0 and second < np.inf:
            j = _place(losses, second)
        before, rows[j], columns[i] = rows[j], i, j
        if before < 0:
            continue
        columns[before] = -1
        bids -= 1
        if raised and bids > 0:
            k -= 1
            left[k] = before
        else:
            left[later] = before
            later += 1
    return later


@serial
def _augment(r, left, prices, columns, rows):
    """Give each row of `left` a column: along the shortest path to a column without a row, rows change columns."""
    width = len(prices)
    distances = np.empty(width)
    closed = np.empty(width)  # 0, or infinite for a column on a path that is known
    before = np.empty(width, np.int32)
    seen = np.empty(width, np.int64)
    for start in left:
        distances[:] = np.inf
        closed[:] = 0
        i, lead, known = start, 0.0, 0
        while True:
            nearest = _reach(r[i], prices, lead, i, distances, closed, before)
            j = _nearest(distances, closed, nearest, rows)
            i = rows[j]
            if i < 0:
                break
            closed[j] = np.inf
            seen[known] = j
            known += 1
            lead = nearest - (prices[j] - r[i, j])
        for k in seen[:known]:
            prices[k] += nearest - distances[k]
        while True:
            i = before[j]
            rows[j] = i
            columns[i], j = j, columns[i]
            if i == start:
                break


@_minima
def _losses(row, prices, losses):
    """Fill price - gain of each column for a row, and return the smallest."""
    best = np.inf
    for j in range(len(losses)):
        loss = prices[j] - row[j]
        losses[j] = loss
        best = loss if loss < best else best
    return best


@_minima
def _smallest(values):
    best = np.inf
    for j in range(len(values)):
        best = values[j] if values[j] < best else best
    return best


@serial
def _place(values, value):
    for j in range(len(values)):
        if values[j] == value:
            return j
    return 0


@_minima
def _reach(row, prices, lead, i, distances, closed, before):
    """Shorten the distances of open columns by way of row i, which lies at `lead`; return the shortest one."""
    for j in range(len(distances)):
        distance = prices[j] - row[j] + lead + closed[j]
        shorter = distance < distances[j]
        distances[j] = distance if shorter else distances[j]
        before[j] = i if shorter else before[j]
    nearest = np.inf
    for j in range(len(distances)):
        distance = distances[j] + closed[j]
        nearest = distance if distance < nearest else nearest
    return nearest


@serial
def _nearest(distances, closed, nearest, rows):
    """Return an open column at this distance, if there is one without a row."""
    tie = -1
    for j in range(len(distances)):
        if distances[j] + closed[j] == nearest:
            if rows[j] < 0:
                return j
            if tie < 0:
                tie = j
    return tie
