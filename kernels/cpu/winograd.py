"""Convolutions of 3x3 with stride 1 by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications.

S seeds, N samples, I input units, O output units, all counts of units whole vectors. The output is cut into tiles of
4x4 positions, which read 6x6 positions of the input. A worker takes TILES tiles at a time, so that all it touches stays
in the L2 cache: it transforms them, multiplies 36 small matrices (a row for each tile), and transforms the products
back. Nothing is padded in memory: a table of addresses says where the positions of a tile lie, and what lies outside is
read from a row of zeros or written to a row that nobody reads.
"""

import numpy as np

from basiscli.kernels.cpu.compiling import serial
from basiscli.kernels.cpu.launching import Kernel, integers, scratch, share
from basiscli.kernels.cpu.memory import constant, empty
from basiscli.kernels.cpu.micro import BYTES, COLUMNS, LANES, add_vector, position_table, prefetch, transpose_block
from basiscli.kernels.cpu.positions import next_position, position
from basiscli.kernels.cpu.products import next_height, panel_width, whole_tile
from basiscli.kernels.cpu.transforms import (
    BLOCK,
    OUTPUTS,
    POINTS,
    TAPS,
    transform_input,
    transform_output,
    transform_output_gradient,
    transform_weight,
    transform_weight_gradient,
)

# Tiles that a worker transforms at a time, whole tiles of registers for any vector; outputs multiplied at a time.
TILES = 24
UNITS = 64
# The same for weight gradients, whose sums are read and written once a chunk: longer ones where there are many sums.
SHORT, LONG, WIDE = 64, 128, 512
# Inputs of one task of a weight gradient, and into how many parts its sum over tiles is cut at most. PARTS is a
# constant: it fixes the order of the sum.
INPUTS = 128
PARTS = 8
# The 36 points lie this many bytes further apart than needed, or they would fall into the same sets of the cache.
SKEW = 64
# Up to so many inputs the memory is the bottleneck: the next chunk is prefetched, line by line, during the products.
NARROW = 32
LINE = 64
INTEGER = 8
# Literals in a call would have the called function compiled once more for them.
ONE, NEW = np.int64(1), np.bool_(False)


def serves(weights, stride, padding):
    """Whether a convolution with weights (KH, KW, I, O) can be done here."""
    height, width, inputs, outputs = weights
    whole = inputs % LANES == 0 and outputs % LANES == 0
    return (height, width, stride) == (TAPS, TAPS, 1) and padding < TAPS and whole


def convolution(x, w, padding, y):
    """y = w * x: (S or 1, N, H, W, I), (S, 3, 3, I, O) -> (S, N, H', W', O)."""
    _convolve(x, _weights(w, False), w.shape[4], padding, y)


def convolution_input_gradient(dy, w, padding, dx):
    """dx = the convolution of dy with the weights turned by 180 degrees, inputs and outputs exchanged."""
    _convolve(dy, _weights(w, True), w.shape[3], TAPS - 1 - padding, dx)


def convolution_weight_gradient(x, dy, padding, dw):
    """dw = Gᵀ (Σ_tiles (Bᵀ d B) ⊙ (A dy Aᵀ)) G: (S or 1, N, H, W, I), (S, N, H', W', O) -> (S, 3, 3, I, O)."""
    seeds, samples, out_height, out_width, outputs = dy.shape
    inputs = x.shape[4]
    tiles = samples * -(-out_height // OUTPUTS) * -(-out_width // OUTPUTS)
    parts = max(1, min(PARTS, tiles // (2 * max(inputs, outputs))))
    sums = empty((seeds, parts, BLOCK, inputs, outputs))
    zeros = constant(np.zeros(max(inputs, outputs)))
    chunk = SHORT if inputs + outputs < WIDE else LONG
    inside = _point_stride(min(inputs, INPUTS), chunk), _point_stride(outputs, chunk)
    memory, stride = scratch(BLOCK * sum(inside) + INTEGER * BLOCK)
    _sum_products(
        x.ctypes.data, _seed_stride(x), dy.ctypes.data, dy.strides[0], sums.ctypes.data, sums.strides[1],
        zeros.ctypes.data, seeds, *x.shape[1:], *dy.shape[2:], padding, parts, chunk, *inside, memory, stride,
        seeds=seeds,
    )  # fmt: skip
    _transform_sums(sums.ctypes.data, sums.strides[1], dw.ctypes.data, dw.strides[0], seeds, parts, inputs, outputs,
                    seeds=seeds)  # fmt: skip


def _weights(w, turned):
    """Return G g Gᵀ for all weights as (S, 36, I O), in panels (I, panel_width) of outputs one after another."""
    seeds, _, _, inputs, outputs = w.shape
    if turned:
        inputs, outputs = outputs, inputs
    u = empty((seeds, BLOCK, inputs * outputs))
    memory, stride = scratch(BYTES * TAPS * TAPS * LANES * LANES)
    _transform_weights(w.ctypes.data, w.strides[0], u.ctypes.data, u.strides[0], u.strides[1], seeds, *w.shape[3:],
                       turned, memory, stride, seeds=seeds)  # fmt: skip
    return u


def _convolve(x, u, outputs, padding, y):
    """Y = Aᵀ ((Bᵀ d B) u) A for each tile; x (S or 1, N, H, W, I), y (S, N, H', W', O)."""
    inputs = x.shape[4]
    zeros = constant(np.zeros(max(inputs, outputs)))
    inside = _point_stride(inputs, TILES), _point_stride(min(UNITS, outputs), TILES)
    memory, stride = scratch(BLOCK * sum(inside) + BYTES * outputs + INTEGER * 2 * BLOCK)
    _convolve_tiles(
        x.ctypes.data, _seed_stride(x), u.ctypes.data, u.strides[0], u.strides[1], y.ctypes.data, y.strides[0],
        zeros.ctypes.data, len(y), *x.shape[1:], *y.shape[2:], padding, *inside, memory, stride,
        seeds=len(y),
    )  # fmt: skip


def _point_stride(units, tiles):
    """Return the bytes from one point to the next in what the transforms of a chunk of tiles give."""
    return BYTES * tiles * units + SKEW


def _seed_stride(array):
    return array.strides[0] if len(array) > 1 else 0


@Kernel
def _transform_weights(worker, workers, arguments):
    w, w_seed, u, u_seed, u_point, seeds, inputs, outputs, turned, memory, stride = integers(arguments, 11)
    memory += worker * stride
    tap = BYTES * inputs * outputs
    blocks = inputs // LANES
    first, last = share(worker, workers, seeds * blocks)
    for task in range(first, last):
        seed, block = divmod(task, blocks)
        for o in range(0, outputs, LANES):
            for i in range(block * LANES, (block + 1) * LANES):
                source = w + seed * w_seed + BYTES * (i * outputs + o)
                if not turned:
                    transform_weight(source, tap, _panel(u + seed * u_seed, inputs, i, outputs, o), u_point)
                elif i % LANES == 0:
                    for k in range(TAPS * TAPS):
                        opposite = source + (TAPS * TAPS - 1 - k) * tap
                        transpose_block(opposite, outputs, memory + BYTES * k * LANES * LANES, LANES)
                    for j in range(LANES):
                        target = _panel(u + seed * u_seed, outputs, o + j, inputs, i)
                        transform_weight(memory + BYTES * j * LANES, BYTES * LANES * LANES, target, u_point)


@Kernel
def _convolve_tiles(worker, workers, arguments):
    (
        x, x_seed, u, u_seed, u_point, y, y_seed, zeros, seeds, samples, height, width, inputs,
        out_height, out_width, outputs, padding, v_point, m_point, memory, stride,
    ) = integers(arguments, 21)  # fmt: skip
    v = memory + worker * stride
    m = v + BLOCK * v_point
    unread = m + BLOCK * m_point
    table = unread + BYTES * outputs
    down, across = (out_height + OUTPUTS - 1) // OUTPUTS, (out_width + OUTPUTS - 1) // OUTPUTS
    an_image = down * across
    chunks = (samples * an_image + TILES - 1) // TILES
    x_tile, y_tile = (BYTES * height * width * inputs // an_image, BYTES * out_height * out_width * outputs // an_image)
    ahead, behind = (TILES * x_tile, TILES * y_tile) if inputs <= NARROW else (0, 0)
    first, last = share(worker, workers, seeds * chunks)
    for task in range(first, last):
        seed, chunk = divmod(task, chunks)
        start = chunk * TILES
        tiles = min(TILES, samples * an_image - start)
        sample, i, j = position(start, down, across)
        for t in range(tiles):
            image = x + seed * x_seed + BYTES * sample * height * width * inputs
            row, column = i * OUTPUTS - padding, j * OUTPUTS - padding
            position_table(table, POINTS, image, zeros, row, column, height, width, BYTES * inputs)
            _transform_inputs(table, inputs, v + BYTES * t * inputs, v_point)
            sample, i, j = next_position(sample, i, j, down, across)
        x_next = x + seed * x_seed + (start + TILES) * x_tile
        y_next = y + seed * y_seed + start * y_tile
        for o in range(0, outputs, UNITS):
            units = min(UNITS, outputs - o)
            for p in range(BLOCK):
                _prefetch_part(x_next, ahead, p, 0)
                _prefetch_part(y_next, behind, p, 1)
                panels = u + seed * u_seed + p * u_point + BYTES * o * inputs
                _multiply_panels(v + p * v_point, inputs, panels, units, m + p * m_point, tiles)
            sample, i, j = position(start, down, across)
            for t in range(tiles):
                image = y + seed * y_seed + BYTES * (sample * out_height * out_width * outputs + o)
                row, column = i * OUTPUTS, j * OUTPUTS
                position_table(table, OUTPUTS, image, unread, row, column, out_height, out_width, BYTES * outputs)
                _transform_outputs(m, t, m_point, units, table)
                sample, i, j = next_position(sample, i, j, down, across)


@Kernel
def _sum_products(worker, workers, arguments):
    (
        x, x_seed, dy, dy_seed, sums, part_size, zeros, seeds, samples, height, width, inputs,
        out_height, out_width, outputs, padding, parts, chunk, v_point, d_point, memory, stride,
    ) = integers(arguments, 22)  # fmt: skip
    v = memory + worker * stride
    d = v + BLOCK * v_point
    table = d + BLOCK * d_point
    down, across = (out_height + OUTPUTS - 1) // OUTPUTS, (out_width + OUTPUTS - 1) // OUTPUTS
    an_image = down * across
    point = part_size // BLOCK
    x_tile, dy_tile = (
        BYTES * height * width * inputs // an_image,
        BYTES * out_height * out_width * outputs // an_image,
    )
    ahead, behind = (chunk * x_tile, chunk * dy_tile) if inputs <= NARROW else (0, 0)
    blocks = (inputs + INPUTS - 1) // INPUTS
    first, last = share(worker, workers, seeds * parts * blocks)
    for task in range(first, last):
        of_part, block = divmod(task, blocks)
        seed, part = divmod(of_part, parts)
        units = min(INPUTS, inputs - block * INPUTS)
        target = sums + of_part * part_size + block * INPUTS * (point // inputs)
        begin, end = share(part, parts, samples * an_image)
        for start in range(begin, end, chunk):
            tiles = min(chunk, end - start)
            sample, i, j = position(start, down, across)
            for t in range(tiles):
                row, column = i * OUTPUTS, j * OUTPUTS
                image = x + seed * x_seed + BYTES * (sample * height * width * inputs + block * INPUTS)
                position_table(
                    table, POINTS, image, zeros, row - padding, column - padding, height, width, BYTES * inputs
                )
                _transform_inputs(table, units, v + BYTES * t * units, v_point)
                image = dy + seed * dy_seed + BYTES * sample * out_height * out_width * outputs
                position_table(table, OUTPUTS, image, zeros, row, column, out_height, out_width, BYTES * outputs)
                _transform_output_gradients(table, outputs, d, t, chunk, d_point)
                sample, i, j = next_position(sample, i, j, down, across)
            x_next = x + seed * x_seed + (start + chunk) * x_tile
            dy_next = dy + seed * dy_seed + (start + chunk) * dy_tile
            for p in range(BLOCK):
                _prefetch_part(x_next, ahead, p, 0)
                _prefetch_part(dy_next, behind, p, 0)
                _add_products(v + p * v_point, units, d + p * d_point, outputs, chunk, tiles,
                              target + p * point, start > begin)  # fmt: skip


@Kernel
def _transform_sums(worker, workers, arguments):
    sums, part_size, dw, dw_seed, seeds, parts, inputs, outputs = integers(arguments, 8)
    point = part_size // BLOCK
    first, last = share(worker, workers, seeds * inputs)
    for task in range(first, last):
        seed, i = divmod(task, inputs)
        row = sums + seed * parts * part_size + BYTES * i * outputs
        for part in range(1, parts):
            for p in range(BLOCK):
                for o in range(0, outputs, LANES):
                    target = row + p * point + BYTES * o
                    add_vector(target + part * part_size, target)
        for o in range(0, outputs, LANES):
            target = dw + seed * dw_seed + BYTES * (i * outputs + o)
            transform_weight_gradient(row + BYTES * o, point, target, BYTES * inputs * outputs)


@serial
def _transform_output_gradients(table, outputs, d, t, chunk, d_point):
    for o in range(0, outputs, LANES):
        transform_output_gradient(table, BYTES * o, _panel(d, chunk, t, outputs, o), d_point)


@serial
def _add_products(v, inputs, d, outputs, chunk, tiles, sums, add):
    """sums (+)= vᵀ d for one point: (tiles, inputs) and panels of (tiles, outputs), sums (inputs, outputs)."""
    for o in range(0, outputs, COLUMNS):
        columns = panel_width(outputs - o)
        i = 0
        while i < inputs:
            rows = next_height(inputs - i)
            b, c = d + BYTES * o * chunk, sums + BYTES * (i * outputs + o)
            whole_tile(rows, columns, add, v + BYTES * i, ONE, inputs, b, c, outputs, tiles)
            i += rows


@serial
def _prefetch_part(start, size, part, writes):
    """Prefetch one of BLOCK equal parts of a range of memory."""
    for line in range(start + size * part // BLOCK, start + size * (part + 1) // BLOCK, LINE):
        prefetch(line, writes)


@serial
def _panel(base, rows, row, columns, column):
    """Return the address of an element of a matrix (rows, columns) in panels (rows, panel_width)."""
    start = column // COLUMNS * COLUMNS
    return base + BYTES * (start * rows + row * panel_width(columns - start) + column - start)


@serial
def _transform_inputs(table, inputs, v, v_point):
    for i in range(0, inputs, LANES):
        transform_input(table, BYTES * i, v + BYTES * i, v_point)


@serial
def _transform_outputs(m, t, m_point, units, table):
    for o in range(0, units, LANES):
        transform_output(_panel(m, TILES, t, units, o), m_point, table, BYTES * o)


@serial
def _multiply_panels(v, inputs, panels, units, m, tiles):
    """m[panel] = v panels[panel] for one point: (tiles, inputs) times (inputs, panel_width)."""
    for o in range(0, units, COLUMNS):
        columns = panel_width(units - o)
        t = 0
        while t < tiles:
            rows = next_height(tiles - t)
            a, b, c = v + BYTES * t * inputs, panels + BYTES * o * inputs, m + BYTES * (o * TILES + t * columns)
            whole_tile(rows, columns, NEW, a, inputs, ONE, b, c, columns, inputs)
            t += rows
