"""Products of a dense layer: y = x w + b, dx = dy wᵀ, dw = xᵀ dy, for all seeds in one launch.

S seeds, N samples, I input units, O output units. A launch is a list of tasks (seed, block of rows, block of columns);
the sum over k of one element is never split between tasks, so the result is the same for any number of threads and any
grouping of seeds. Blocking follows Goto and van de Geijn 2008, reduced to what products of this size need: the panel of
b (DEPTH x COLUMNS, the last one DEPTH x LANES where that is enough) is packed and stays in the L1 or L2 cache, a is
read where it lies or packed tile by tile.
"""

import numpy as np
from numba import get_num_threads

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, share
from basiscli.kernels.cpu.memory import empty
from basiscli.kernels.cpu.micro import (
    BYTES,
    COLUMNS,
    LANES,
    ROWS,
    address,
    copy_vector,
    load,
    product_tile,
    store,
    transpose_block,
)

# A longer sum is taken in pieces of this length, each added to c. A constant: it fixes the order of every sum.
DEPTH = 1024
ALIGNMENT = 64

# Below, np.int64(1) instead of 1: to numba a literal is a type of its own, and compiles a function once more.


def dense(x, w, b):
    """y = x w + b: (S or 1, N, I), (S, I, O), (S, O) -> (S, N, O)."""
    y = empty((len(w), x.shape[1], w.shape[2]))
    _product(x, False, w, False, b, y)
    return y


def dense_input_gradient(dy, w):
    """dx = dy wᵀ: (S, N, O), (S, I, O) -> (S, N, I)."""
    dx = empty((len(w), dy.shape[1], w.shape[1]))
    _product(dy, False, w, True, None, dx)
    return dx


def dense_weight_gradient(x, dy, out=None):
    """dw = xᵀ dy: (S or 1, N, I), (S, N, O) -> (S, I, O), into `out` where it is given."""
    dw = empty((len(dy), x.shape[2], dy.shape[2])) if out is None else out
    _product(x, True, dy, False, None, dw)
    return dw


def _product(a, a_transposed, b, b_transposed, bias, c):
    """c = op(a) op(b) + bias for each seed, each matrix C-contiguous (the seeds may lie anywhere)."""
    seeds, rows, columns = c.shape
    row_block, column_block = _blocks(seeds, rows, columns, a_transposed)
    no_bias = bias is None
    _run(
        *_matrices(a), a_transposed, *_matrices(b), b_transposed,
        c.ctypes.data if no_bias else bias.ctypes.data, 0 if no_bias else bias.strides[0] // BYTES, not no_bias,
        *_matrices(c)[:2], seeds, rows, columns, a.shape[1] if a_transposed else a.shape[2], row_block, column_block,
    )  # fmt: skip


def _matrices(array):
    """Return (address, stride over seeds, 0 for a shared one, length of a row) of the matrices of (S, n, m)."""
    if array.dtype != np.float32 or array.strides[1:] != (array.shape[2] * BYTES, BYTES):
        raise ValueError(f"an array of {array.dtype} with strides {array.strides} is no C-contiguous float32 matrix")
    return array.ctypes.data, array.strides[0] // BYTES if len(array) > 1 else 0, array.shape[2]


def _blocks(seeds, rows, columns, a_transposed):
    """Return (rows, columns) of a task so that every thread has some; only the speed depends on the choice."""
    wanted = get_num_threads() if seeds == 1 else -(-get_num_threads() * 2 // seeds)
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
        a, a_seed, a_width, a_transposed, b, b_seed, b_width, b_transposed, bias, bias_seed, has_bias,
        c, c_seed, seeds, rows, columns, depth, row_block, column_block,
    ) = integers(arguments, 19)  # fmt: skip
    biased = has_bias != 0
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
        if biased:
            _fill_rows(bias + BYTES * (seed * bias_seed + first_column), c_task, columns, height, width)
        if a_transposed:
            _product_packing_a(a_task, a_width, b_task, b_width, c_task, columns, height, width, depth, biased)
        else:
            _product_in_place(
                a_task, a_width, b_task, b_width, b_transposed != 0, c_task, columns, height, width, depth, biased
            )


@serial
def _product_in_place(a, a_width, b, b_width, b_transposed, c, c_width, rows, columns, depth, add):
    """c (+)= a op(b): each panel of b is packed, then swept over all rows of a."""
    scratch = np.empty(min(depth, DEPTH) * COLUMNS + ROWS * COLUMNS + ALIGNMENT, np.float32)
    panel = _aligned(scratch)
    spill = panel + BYTES * min(depth, DEPTH) * COLUMNS
    for start in range(0, depth, DEPTH):
        length = min(DEPTH, depth - start)
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
                _tile(
                    height, width, add or start > 0, a_tile, a_width, np.int64(1), panel, c_tile, c_width, length, spill
                )
                i += height
    scratch[0] = 0  # keeps the scratch array alive to this point


@serial
def _product_packing_a(a, a_width, b, b_width, c, c_width, rows, columns, depth, add):
    """c (+)= aᵀ b: all panels of b are packed, then each tile of aᵀ, whose columns would share few cache sets."""
    panels = (columns + COLUMNS - 1) // COLUMNS
    longest = min(depth, DEPTH)
    scratch = np.empty(longest * (COLUMNS * panels + ROWS + LANES) + ROWS * COLUMNS + ALIGNMENT, np.float32)
    packed = _aligned(scratch)
    strip = packed + BYTES * longest * COLUMNS * panels
    spill = strip + BYTES * longest * (ROWS + LANES)
    for start in range(0, depth, DEPTH):
        length = min(DEPTH, depth - start)
        for p in range(panels):
            width = min(COLUMNS, columns - p * COLUMNS)
            pack(
                b + BYTES * (start * b_width + p * COLUMNS),
                b_width,
                length,
                width,
                packed + BYTES * p * length * COLUMNS,
            )
        i = 0
        while i < rows:
            height = next_height(rows - i)
            stride = _pack_strip(a + BYTES * (start * a_width + i), a_width, length, height, rows - i, strip)
            for p in range(panels):
                width = min(COLUMNS, columns - p * COLUMNS)
                panel = packed + BYTES * p * length * COLUMNS
                c_tile = c + BYTES * (i * c_width + p * COLUMNS)
                _tile(
                    height, width, add or start > 0, strip, np.int64(1), stride, panel, c_tile, c_width, length, spill
                )
            i += height
    scratch[0] = 0  # keeps the scratch array alive to this point


@serial
def next_height(left):
    """Return the rows of the next tile: the fewest tiles, of heights that differ by one at most."""
    tiles = (left + ROWS - 1) // ROWS
    return (left + tiles - 1) // tiles


@serial
def _tile(height, width, add, a, a_row, a_step, panel, c, c_row, depth, spill):
    """One tile of c; the last columns, where they are no whole vectors, are computed in `spill` and copied."""
    columns = panel_width(width)
    if width == columns:
        whole_tile(height, columns, add, a, a_row, a_step, panel, c, c_row, depth)
        return
    fresh = width == columns  # False here; a literal would be compiled once more
    whole_tile(height, columns, fresh, a, a_row, a_step, panel, spill, columns, depth)
    for i in range(height):
        for j in range(width):
            target = c + BYTES * (i * c_row + j)
            value = load(spill + BYTES * (i * columns + j))
            store(load(target) + value if add else value, target)


@serial
def panel_width(left):
    """Return the columns of the next panel where so many are left: whole vectors, one or VECTORS."""
    return LANES if left <= LANES else COLUMNS


@serial
def whole_tile(height, columns, add, a, a_row, a_step, panel, c, c_row, depth):
    # A function of its own, so that the generated code exists once and not at every call.
    product_tile(height, columns, add, a, a_row, a_step, panel, c, c_row, depth)


@serial
def _aligned(scratch):
    return (address(scratch) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


@serial
def _fill_rows(row, c, c_width, rows, columns):
    whole = columns // LANES * LANES
    for i in range(rows):
        target = c + BYTES * i * c_width
        for j in range(0, whole, LANES):
            copy_vector(row + BYTES * j, target + BYTES * j)
        for j in range(whole, columns):
            store(load(row + BYTES * j), target + BYTES * j)


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
