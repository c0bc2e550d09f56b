"""Products of a dense layer: y = x w + b, dx = dy wᵀ, dw = xᵀ dy, for all seeds in one launch.

S seeds, N samples, I input units, O output units. A launch is a list of tasks (seed, block of rows, block of columns);
the sum over k of one element is never split between tasks, so the result is the same for any number of threads and any
grouping of seeds. Blocking follows Goto and van de Geijn 2008, reduced to what products of this size need: the panel of
b (DEPTH x COLUMNS, the last one DEPTH x LANES where that is enough) is packed and stays in the L1 or L2 cache, a is
read where it lies or packed tile by tile.
"""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, parts_of_a_seed, scratch, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.micro import (
    ADD,
    BIAS,
    BYTES,
    COLUMNS,
    LANES,
    MASK,
    RECTIFY,
    ROWS,
    copy_vector,
    extended_tile,
    load,
    product_tile,
    store,
    sum_vectors,
    transpose_block,
)

# A longer sum is taken in pieces of this length, each added to c. A constant: it fixes the order of every sum.
DEPTH = 1024
# What a product does besides, with what lies at another address: beside ADD, BIAS, RECTIFY and MASK of a tile.
SUMS = 16

# Below, np.int64(1) instead of 1: to numba a literal is a type of its own, and compiles a function once more.


def dense(x, w, b, rectify=False):
    """y = x w + b, or max(x w + b, 0): (S or 1, N, I), (S, I, O), (S, O) or None for 0 -> (S, N, O)."""
    b = constant(np.zeros(w.shape[::2])) if b is None else b
    y = empty((len(w), x.shape[1], w.shape[2]))
    _product(x, False, w, False, y, BIAS | (RECTIFY if rectify else 0), b)
    return y


def dense_input_gradient(dy, w, x=None):
    """dx = dy wᵀ, 0 where an x is given and not positive: (S, N, O), (S, I, O), (S, N, I) -> (S, N, I)."""
    dx = empty((len(w), dy.shape[1], w.shape[1]))
    _product(dy, False, w, True, dx, 0 if x is None else MASK, x)
    return dx


def dense_weight_gradient(x, dy, out=None, sums=None):
    """dw = xᵀ dy: (S or 1, N, I), (S, N, O) -> (S, I, O), into `out`, and Σ_n dy into `sums` (S, O), where given."""
    dw = empty((len(dy), x.shape[2], dy.shape[2])) if out is None else out
    _product(x, True, dy, False, dw, 0 if sums is None else SUMS, sums)
    return dw


def _product(a, a_transposed, b, b_transposed, c, extra, other):
    """c = op(a) op(b) for each seed, each matrix C-contiguous (the seeds may lie anywhere).

    extra: what is done with `other` besides.
    """
    seeds, rows, columns = c.shape
    depth = a.shape[1] if a_transposed else a.shape[2]
    row_block, column_block = _blocks(seeds, rows, columns, a_transposed)
    panels = -(-column_block // COLUMNS) if a_transposed else 1
    strip = ROWS + LANES if a_transposed else 0
    memory, pitch = scratch(BYTES * (min(depth, DEPTH) * (COLUMNS * panels + strip) + ROWS * COLUMNS))
    other = c if other is None else other
    _run(
        *_matrices(a), a_transposed, *_matrices(b), b_transposed, *_matrices(c)[:2], extra, other.ctypes.data,
        other.strides[0] if len(other) > 1 else 0, seeds, rows, columns, depth, row_block, column_block, memory, pitch,
        seeds=seeds,
    )  # fmt: skip


def _matrices(array):
    """Return (address, stride over seeds, 0 for a shared one, length of a row) of the matrices of (S, n, m)."""
    if array.dtype != np.float32 or array.strides[1:] != (array.shape[2] * BYTES, BYTES):
        raise ValueError(f"an array of {array.dtype} with strides {array.strides} is no C-contiguous float32 matrix")
    return array.ctypes.data, array.strides[0] // BYTES if len(array) > 1 else 0, array.shape[2]


def _blocks(seeds, rows, columns, a_transposed):
    """Return (rows, columns) of a task so that every thread has some; only the speed depends on the choice."""
    wanted = parts_of_a_seed(seeds)
    column_tasks = min(wanted, -(-columns // COLUMNS))
    # A transposed `a` is packed once a task, for all its columns: split its rows instead.
    if a_transposed and rows >= wanted * ROWS:
        column_tasks = 1
    row_tasks = min(-(-wanted // column_tasks), -(-rows // ROWS))
    return _split(rows, row_tasks, ROWS), _split(columns, column_tasks, COLUMNS)


def _split(length, parts, unit):
    """Return the size of a block that cuts a length into at most `parts` blocks of whole units."""
    return max(1, -(-length // (parts * unit))) * unit


@Kernel
def _run(worker, workers, arguments):
    (
        a, a_seed, a_width, a_transposed, b, b_seed, b_width, b_transposed, c, c_seed, extra, other, other_seed,
        seeds, rows, columns, depth, row_block, column_block, memory, pitch,
    ) = integers(arguments, 21)  # fmt: skip
    row_tasks = (rows + row_block - 1) // row_block
    column_tasks = (columns + column_block - 1) // column_block
    first, last = share(worker, workers, seeds * row_tasks * column_tasks)
    for task in range(first, last):
        seed, block = divmod(task, row_tasks * column_tasks)
        first_row, first_column = block // column_tasks * row_block, block % column_tasks * column_block
        height, width = min(row_block, rows - first_row), min(column_block, columns - first_column)
        a_task = a + BYTES * (seed * a_seed + (first_row if a_transposed else first_row * a_width))
        b_task = b + BYTES * (seed * b_seed + (first_column * b_width if b_transposed else first_column))
        c_task = c + BYTES * (seed * c_seed + first_row * columns + first_column)
        beside = other + seed * other_seed + BYTES * (first_column + (first_row * columns if extra & MASK else 0))
        if a_transposed:
            sums = beside if extra & SUMS and first_row == 0 else np.int64(0)
            _product_packing_a(
                a_task, a_width, b_task, b_width, c_task, columns, height, width, depth, sums, memory + pitch * worker
            )
        else:
            _product_in_place(
                a_task, a_width, b_task, b_width, b_transposed != 0, c_task, columns, height, width, depth, extra,
                beside, memory + pitch * worker,
            )  # fmt: skip


@serial
def _product_in_place(a, a_width, b, b_width, b_transposed, c, c_width, rows, columns, depth, extra, other, panel):
    """c = a op(b): each panel of b is packed, then swept over all rows of a."""
    spill = panel + BYTES * min(depth, DEPTH) * COLUMNS
    for start in range(0, depth, DEPTH):
        length = min(DEPTH, depth - start)
        # A bias comes with the first piece of a sum, a rectifier or a mask with the last.
        doing = (extra & BIAS if start == 0 else ADD) | (extra & ~BIAS if start + length == depth else 0)
        for j in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - j)
            if b_transposed:
                pack_transposed(b + BYTES * (j * b_width + start), b_width, length, width, panel)
            else:
                pack(b + BYTES * (start * b_width + j), b_width, length, width, panel)
            i = 0
            while i < rows:
                height = next_height(rows - i)
                a_tile = a + BYTES * (i * a_width + start)
                c_tile = c + BYTES * (i * c_width + j)
                beside = other + BYTES * (j + (i * c_width if extra & MASK else 0))
                _tile(height, width, doing, a_tile, a_width, np.int64(1), panel, c_tile, c_width, length, beside, spill)
                i += height


@serial
def _product_packing_a(a, a_width, b, b_width, c, c_width, rows, columns, depth, sums, packed):
    """c = aᵀ b: all panels of b are packed, then each tile of aᵀ, whose columns would share few cache sets.

    The columns of b are summed up at `sums`, an address or 0.
    """
    panels = (columns + COLUMNS - 1) // COLUMNS
    longest = min(depth, DEPTH)
    strip = packed + BYTES * longest * COLUMNS * panels
    spill = strip + BYTES * longest * (ROWS + LANES)
    for start in range(0, depth, DEPTH):
        length = min(DEPTH, depth - start)
        doing = np.int64(0) if start == 0 else np.int64(ADD)
        for p in range(panels):
            width, panel = min(COLUMNS, columns - p * COLUMNS), packed + BYTES * p * length * COLUMNS
            pack(b + BYTES * (start * b_width + p * COLUMNS), b_width, length, width, panel)
            if sums:
                _sum_rows(panel, panel_width(width), length, start > 0, width, sums + BYTES * p * COLUMNS, spill)
        i = 0
        while i < rows:
            height = next_height(rows - i)
            stride = _pack_strip(a + BYTES * (start * a_width + i), a_width, length, height, rows - i, strip)
            for p in range(panels):
                width = min(COLUMNS, columns - p * COLUMNS)
                panel = packed + BYTES * p * length * COLUMNS
                c_tile = c + BYTES * (i * c_width + p * COLUMNS)
                _tile(
                    height, width, doing, strip, np.int64(1), stride, panel, c_tile, c_width, length, np.int64(0), spill
                )
            i += height


@serial
def _sum_rows(panel, columns, depth, add, width, sums, spill):
    """sums[j] = (sums[j] if add) + Σ_k panel[k, j] for j < width."""
    for j in range(0, width, LANES):
        sum_vectors(panel + BYTES * j, columns, depth, spill)
        for lane in range(min(LANES, width - j)):
            value, target = load(spill + BYTES * lane), sums + BYTES * (j + lane)
            store(load(target) + value if add else value, target)


@serial
def next_height(left):
    """Return the rows of the next tile: the fewest tiles, of heights that differ by one at most."""
    tiles = (left + ROWS - 1) // ROWS
    return (left + tiles - 1) // tiles


@serial
def _tile(height, width, extra, a, a_row, a_step, panel, c, c_row, depth, other, spill):
    """One tile of c; the last columns, where they are no whole vectors, are computed in `spill` and copied."""
    columns = panel_width(width)
    if width == columns:
        finished_tile(height, columns, extra, a, a_row, a_step, panel, c, c_row, depth, other)
        return
    finished_tile(height, columns, extra & 0, a, a_row, a_step, panel, spill, columns, depth, other)
    for i in range(height):
        for j in range(width):
            target = c + BYTES * (i * c_row + j)
            value = load(spill + BYTES * (i * columns + j))
            if extra & ADD:
                value = load(target) + value
            if extra & BIAS:
                value = load(other + BYTES * j) + value
            if extra & RECTIFY and value < 0:
                value = np.float32(0)
            if extra & MASK and not load(other + BYTES * (i * c_row + j)) > 0:
                value = np.float32(0)
            store(value, target)


@serial
def panel_width(left):
    """Return the columns of the next panel where so many are left: whole vectors, one or VECTORS."""
    return LANES if left <= LANES else COLUMNS


@serial
def whole_tile(height, columns, add, a, a_row, a_step, panel, c, c_row, depth):
    # A function of its own, so that the generated code exists once and not at every call.
    product_tile(height, columns, add, a, a_row, a_step, panel, c, c_row, depth)


@serial
def finished_tile(height, columns, extra, a, a_row, a_step, panel, c, c_row, depth, other):
    extended_tile(height, columns, extra, a, a_row, a_step, panel, c, c_row, depth, other)


@serial
def pack(b, b_width, depth, width, panel):
    """panel[k, j] = b[k, j] for a panel of panel_width(width) columns, zero beyond the last one."""
    columns = panel_width(width)
    for k in range(depth):
        source, target = b + BYTES * k * b_width, panel + BYTES * k * columns
        if width == columns:
            for v in range(0, columns, LANES):
                copy_vector(source + BYTES * v, target + BYTES * v)
        else:
            for j in range(columns):
                store(load(source + BYTES * j) if j < width else np.float32(0), target + BYTES * j)


@serial
def pack_transposed(b, b_width, depth, width, panel):
    """panel[k, j] = b[j, k] for a panel of panel_width(width) columns, zero beyond the last one."""
    columns = panel_width(width)
    k = 0
    if width == columns:
        while k + LANES <= depth:
            for j in range(0, columns, LANES):
                transpose_block(b + BYTES * (j * b_width + k), b_width, panel + BYTES * (k * columns + j), columns)
            k += LANES
    while k < depth:
        for j in range(columns):
            value = load(b + BYTES * (j * b_width + k)) if j < width else np.float32(0)
            store(value, panel + BYTES * (k * columns + j))
        k += 1


@serial
def _pack_strip(a, a_width, depth, height, readable, strip):
    """strip[k, i] = a[k, i] for i < height; returns the stride over k. `readable` columns may be read."""
    stride = (height + LANES - 1) // LANES * LANES
    for k in range(depth):
        source, target = a + BYTES * k * a_width, strip + BYTES * k * stride
        if readable >= stride:
            for v in range(0, stride, LANES):
                copy_vector(source + BYTES * v, target + BYTES * v)
        else:
            for i in range(height):
                store(load(source + BYTES * i), target + BYTES * i)
    return stride
