"""Convolutions of any kernel, stride and padding, straight from where the inputs lie.

S seeds, N samples, I input units, O output units, T taps (the places of a kernel). The tile of a matrix product, ROWS
positions times COLUMNS outputs in registers, runs over all taps; a table of addresses says where the inputs of each
position and tap begin (the indirect convolution of Dukhan 2019), so no patches are copied. What lies outside an image
is read from a row of zeros. The gradient of the inputs is such a convolution for each of the stride x stride phases of
their positions, with the taps that reach them.

With fewer inputs than a vector has floats, a row of the kernel is one tap; with fewer outputs too, some positions side
by side are taken as one: they see a few columns more than one of them, and their outputs fill a vector.
"""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.copying import copy_positions
from basiscli.kernels.cpu.folding import add_folds, side_by_side, turned
from basiscli.kernels.cpu.launching import Kernel, integers, scratch, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.micro import (
    BYTES,
    COLUMNS,
    LANES,
    ROWS,
    add_vector,
    gathered_outer_products,
    gathered_tile,
    load,
    store,
    store_integer,
)
from basiscli.kernels.cpu.positions import next_position, position
from basiscli.kernels.cpu.products import next_height, pack, pack_transposed, panel_width

# Positions that a worker takes at a time, and those whose sum is one chain of additions in a weight gradient.
POSITIONS = 96
DEPTH = 128
# Into how many parts a sum over positions is cut at most, and how many positions a part has at least. Constants: they
# fix the order of the sum.
PARTS = 8
PART = 1024
INTEGER = 8


def convolution(x, w, stride, padding, y):
    """y = w * x: (S or 1, N, H, W, I), (S, KH, KW, I, O) -> (S, N, H', W', O)."""
    fold = _fold(w.shape, stride, y.shape[3])
    w = w if fold == 1 else side_by_side(w, fold, stride)
    x, kernel, depth, offsets = _taps(x, w.shape[1:3], padding)
    w, y = w.reshape(len(w), *kernel, depth, w.shape[4]), _folded(y, fold)
    _convolve(x, w, False, range(len(offsets)), offsets, (stride, fold * stride), y)


def convolution_input_gradient(dy, w, stride, padding, dx):
    """dx: each phase of its positions is a convolution of dy with the taps that see it, outputs as inputs."""
    _, height, width, _, outputs = w.shape
    if outputs < LANES and stride == 1 and height == width > padding:
        convolution(dy, turned(w), 1, width - 1 - padding, dx)
        return
    for phase in np.ndindex(min(stride, dx.shape[2]), min(stride, dx.shape[3])):
        # Position p = stride a + phase is seen through tap k by output (p + padding - k) / stride, if that is whole.
        seen = [
            [(k, (at + padding - k) // stride) for k in range(length) if (at + padding - k) % stride == 0]
            for at, length in zip(phase, (height, width), strict=True)
        ]
        taps = [k * width + l for k, _ in seen[0] for l, _ in seen[1]]
        offsets = [(row, column) for _, row in seen[0] for _, column in seen[1]]
        _convolve(dy, w, True, taps, offsets, (1, 1), dx[:, :, phase[0] :: stride, phase[1] :: stride])


def convolution_weight_gradient(x, dy, stride, padding, dw):
    """dw = Σ of the outer products of what each tap sees with dy: (S or 1, N, H, W, I), (S, N, H', W', O)."""
    fold = _fold(dw.shape, stride, dy.shape[3])
    if fold == 1:
        _add_up(x, dy, (stride, stride), padding, dw)
        return
    _, height, width, inputs, outputs = dw.shape
    wide = empty((len(dw), height, width + (fold - 1) * stride, inputs, fold * outputs))
    _add_up(x, _folded(dy, fold), (stride, fold * stride), padding, wide)
    add_folds(wide, fold, stride, dw)


def _fold(weights, stride, columns):
    """Return how many positions of a row of outputs, `columns` long, are taken as one; weights (S, KH, KW, I, O).

    Together they see KW + (fold - 1) stride columns of the image, alone fold KW, so it pays up to a stride of KW.
    """
    _, _, width, inputs, outputs = weights
    if width == 1 or inputs >= LANES or stride > width:
        return 1
    return max((fold for fold in range(1, LANES // outputs + 1) if columns % fold == 0), default=1)


def _folded(y, fold):
    """View (S, N, H, W, O) as (S, N, H, W / fold, fold O)."""
    return y.reshape(*y.shape[:3], y.shape[3] // fold, fold * y.shape[4])


def _add_up(x, dy, strides, padding, dw):
    """Fill dw (S, KH, KW, I, O); `strides` are those over rows and columns of x."""
    seeds, samples, out_height, out_width, outputs = dy.shape
    x, _, depth, offsets = _taps(x, dw.shape[1:3], padding)
    offsets = constant(offsets, np.int64)
    taps = len(offsets)
    columns = _whole_vectors(outputs)
    parts = max(1, min(PARTS, samples * out_height * out_width // PART))
    # Taps are summed apart where there are few parts to share among the workers.
    tap_block = taps if parts == PARTS else 1
    sums = empty((seeds, parts, taps * depth, columns))
    zeros = constant(np.zeros(depth))
    memory, pitch = scratch(BYTES * DEPTH * columns + INTEGER * taps * DEPTH)
    _sum_outer_products(
        x.ctypes.data, x.strides[0] if len(x) > 1 else 0, dy.ctypes.data, dy.strides[0], sums.ctypes.data,
        sums.strides[1], zeros.ctypes.data, offsets.ctypes.data, taps, tap_block, *strides, seeds, *x.shape[1:],
        *dy.shape[2:], depth, parts, memory, pitch, seeds=seeds,
    )  # fmt: skip
    _sum_parts(sums.ctypes.data, sums.strides[1], dw.ctypes.data, dw.strides[0], seeds, parts, taps * depth, outputs,
               seeds=seeds)  # fmt: skip


def _taps(x, kernel, padding):
    """Return (x, kernel, units a tap sees, offset of each tap); with few units a row of the kernel is one tap.

    The units under a row of the kernel lie side by side once the columns of x are padded.
    """
    height, width = kernel
    samples, rows, columns, units = x.shape[1:]
    if width == 1 or units >= LANES:
        return x, kernel, units, [(k - padding, l - padding) for k in range(height) for l in range(width)]
    padded = empty((len(x), samples, rows, columns + 2 * padding, units))
    images = padded.reshape(-1, rows, 1, (columns + 2 * padding) * units)
    inside = images[..., padding * units : (padding + columns) * units]
    copy_positions(x.reshape(-1, rows, 1, columns * units), inside, images, len(x))
    return padded, (height, 1), width * units, [(k - padding, 0) for k in range(height)]


def _whole_vectors(units):
    return -(-units // LANES) * LANES


def _convolve(x, w, transposed, taps, offsets, strides, y):
    """y[a, b] = Σ_t x[strides (a, b) + offset_t] w[tap_t] (or its transpose); the units of y lie side by side."""
    seeds, _, _, inputs, outputs = w.shape
    if transposed:
        inputs, outputs = outputs, inputs
    numbers = constant(taps, np.int64)
    offsets = constant(offsets, np.int64)
    packed = empty((seeds, len(taps) * inputs, _whole_vectors(outputs)))
    _pack_weights(w.ctypes.data, w.strides[0], packed.ctypes.data, packed.strides[0], numbers.ctypes.data, len(taps),
                  seeds, inputs, outputs, transposed, seeds=seeds)  # fmt: skip
    zeros = constant(np.zeros(inputs))
    addresses = (POSITIONS // ROWS * len(taps) + 1) * ROWS + POSITIONS
    memory, pitch = scratch(INTEGER * addresses + BYTES * (outputs + COLUMNS + ROWS * COLUMNS))
    _convolve_positions(
        x.ctypes.data, x.strides[0] if len(x) > 1 else 0, packed.ctypes.data, packed.strides[0], y.ctypes.data,
        *y.strides[:4], zeros.ctypes.data, offsets.ctypes.data, len(taps), *strides,
        *y.shape[1:], *x.shape[2:], inputs, len(y), memory, pitch, seeds=len(y),
    )  # fmt: skip


@Kernel
def _pack_weights(worker, workers, arguments):
    w, w_seed, packed, packed_seed, numbers, taps, seeds, inputs, outputs, transposed = integers(arguments, 10)
    panels = (outputs + COLUMNS - 1) // COLUMNS
    first, last = share(worker, workers, seeds * panels)
    for task in range(first, last):
        seed, panel = divmod(task, panels)
        o = panel * COLUMNS
        width = min(COLUMNS, outputs - o)
        for t in range(taps):
            number = integers(numbers + INTEGER * t, 1)[0]
            tap = w + seed * w_seed + BYTES * number * inputs * outputs
            target = packed + seed * packed_seed + BYTES * inputs * (taps * o + t * panel_width(width))
            if transposed:
                pack_transposed(tap + BYTES * o * inputs, inputs, inputs, width, target)
            else:
                pack(tap + BYTES * o, outputs, inputs, width, target)


@Kernel
def _convolve_positions(worker, workers, arguments):
    (
        x, x_seed, w, w_seed, y, y_seed, y_image, y_row, y_column, zeros, offsets, taps, down, across,
        samples, rows, columns, outputs, height, width, units, depth, seeds, memory, pitch,
    ) = integers(arguments, 25)  # fmt: skip
    sources = memory + worker * pitch
    targets = sources + INTEGER * POSITIONS * taps
    spill_rows = targets + INTEGER * POSITIONS
    spill = spill_rows + INTEGER * ROWS
    unread = spill + BYTES * ROWS * COLUMNS
    for r in range(ROWS):
        store_integer(spill + BYTES * r * COLUMNS, spill_rows + INTEGER * r)
    positions = samples * rows * columns
    chunks = (positions + POSITIONS - 1) // POSITIONS
    first, last = share(worker, workers, seeds * chunks)
    for task in range(first, last):
        seed, chunk = divmod(task, chunks)
        start = chunk * POSITIONS
        count = min(POSITIONS, positions - start)
        groups = (count + ROWS - 1) // ROWS
        _find_sources(
            sources, np.int64(POSITIONS), count, start, x + seed * x_seed, zeros, offsets, taps, down, across,
            rows, columns, height, width, BYTES * units,
        )  # fmt: skip
        sample, row, column = position(start, rows, columns)
        for p in range(count):
            target = y + seed * y_seed + sample * y_image + row * y_row + column * y_column
            store_integer(target, targets + INTEGER * p)
            sample, row, column = next_position(sample, row, column, rows, columns)
        for p in range(count, groups * ROWS):
            for t in range(taps):
                store_integer(zeros, sources + INTEGER * (t * POSITIONS + p))
            store_integer(unread, targets + INTEGER * p)
        for o in range(0, outputs, COLUMNS):
            panel = w + seed * w_seed + BYTES * taps * depth * o
            wide = panel_width(outputs - o)
            for g in range(groups):
                from_rows, to_rows = sources + INTEGER * g * ROWS, targets + INTEGER * g * ROWS
                if outputs - o >= wide:
                    _tile(wide, from_rows, taps, depth, panel, to_rows, BYTES * o)
                else:
                    _tile(wide, from_rows, taps, depth, panel, spill_rows, 0)
                    _copy_rows(spill, to_rows, BYTES * o, outputs - o)


@Kernel
def _sum_outer_products(worker, workers, arguments):
    (
        x, x_seed, dy, dy_seed, sums, part_size, zeros, offsets, taps, tap_block, down, across, seeds,
        samples, height, width, units, rows, columns, outputs, depth, parts, memory, pitch,
    ) = integers(arguments, 24)  # fmt: skip
    panels = memory + worker * pitch
    row_size = (outputs + LANES - 1) // LANES * LANES
    sources = panels + BYTES * DEPTH * row_size
    blocks = (taps + tap_block - 1) // tap_block
    first, last = share(worker, workers, seeds * parts * blocks)
    for task in range(first, last):
        of_part, block = divmod(task, blocks)
        seed, part = divmod(of_part, parts)
        first_tap = block * tap_block
        begin, end = share(part, parts, samples * rows * columns)
        for start in range(begin, end, DEPTH):
            count = min(DEPTH, end - start)
            _find_sources(
                sources, np.int64(DEPTH), count, start, x + seed * x_seed, zeros,
                offsets + 2 * INTEGER * first_tap, tap_block, down, across, rows, columns, height, width, BYTES * units,
            )  # fmt: skip
            for o in range(0, outputs, COLUMNS):
                panel = panels + BYTES * DEPTH * o
                source = dy + seed * dy_seed + BYTES * (start * outputs + o)
                pack(source, outputs, count, min(COLUMNS, outputs - o), panel)
                for t in range(tap_block):
                    target = sums + of_part * part_size + BYTES * ((first_tap + t) * depth * row_size + o)
                    _add_outer_products(
                        panel_width(outputs - o), start > begin, sources + INTEGER * t * DEPTH, depth, panel, target,
                        row_size, count,
                    )  # fmt: skip


@Kernel
def _sum_parts(worker, workers, arguments):
    sums, part_size, dw, dw_seed, seeds, parts, rows, outputs = integers(arguments, 8)
    columns = (outputs + LANES - 1) // LANES * LANES
    first, last = share(worker, workers, seeds * rows)
    for task in range(first, last):
        seed, row = divmod(task, rows)
        total = sums + seed * parts * part_size + BYTES * row * columns
        for part in range(1, parts):
            for o in range(0, columns, LANES):
                add_vector(total + part * part_size + BYTES * o, total + BYTES * o)
        for o in range(outputs):
            store(load(total + BYTES * o), dw + seed * dw_seed + BYTES * (row * outputs + o))


@serial
def _find_sources(
    table, pitch, count, start, x, zeros, offsets, taps, down, across, rows, columns, height, width, pixel
):
    """Write the address of what each tap sees from each of `count` positions, `zeros` for what lies outside the image.

    The table is (taps, pitch). It is filled by runs along a row, with no division and one look at the row a run.
    """
    sample, row, column = position(start, rows, columns)
    p = 0
    while p < count:
        run = min(count - p, columns - column)
        for t in range(taps):
            tap_row, tap_column = integers(offsets + 2 * INTEGER * t, 2)
            i, j = row * down + tap_row, column * across + tap_column
            source = x + ((sample * height + i) * width + j) * pixel
            # A row outside the image has no column inside it.
            whole = width if 0 <= i < height else 0
            _find_run(table + INTEGER * (t * pitch + p), run, source, across * pixel, zeros, j, across, whole)
        p += run
        sample, row, column = next_position(sample, row, columns - 1, rows, columns)


@serial
def _find_run(table, count, source, step, zeros, j, across, width):
    for k in range(count):
        inside = (j >= 0) & (j < width)
        store_integer(source if inside else zeros, table + INTEGER * k)
        source += step
        j += across


@serial
def _tile(columns, sources, taps, depth, panel, targets, offset):
    # A function of its own, so that the generated code exists once and not at every call.
    gathered_tile(columns, sources, np.int64(POSITIONS), taps, depth, panel, targets, offset)


@serial
def _copy_rows(spill, targets, offset, width):
    for r in range(ROWS):
        target = integers(targets + INTEGER * r, 1)[0] + offset
        for j in range(width):
            store(load(spill + BYTES * (r * COLUMNS + j)), target + BYTES * j)


@serial
def _add_outer_products(columns, add, sources, depth, panel, sums, row_size, count):
    """sums (+)= Σ_k outer product of the inputs at sources[k] with panel[k], for one tap: (depth, columns)."""
    i = 0
    while i < depth:
        rows = next_height(depth - i)
        c = sums + BYTES * i * row_size
        gathered_outer_products(rows, columns, add, sources, BYTES * i, panel, c, row_size, count)
        i += rows
