"""Micro-kernels that transform a small block from both sides, y = L x Lᵀ, for LANES channels at once, in registers.

L are the matrices of Winograd's minimal filtering F(4x4, 3x3) with the points 0, ±1, ±2 and infinity (Lavin and Gray
2016): a convolution is Y = Aᵀ ((G g Gᵀ) ⊙ (Bᵀ d B)) A for each tile d of 6x6 positions and its 4x4 outputs Y.
The matrices are written down here; the arithmetic is derived from them: rows for points of opposite sign share the sums
over even and over odd entries, columns for such points the sums and differences of what they multiply.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from basiscli.kernels.cpu.micro import FLOAT, INT, VECTOR, fused, load_vector, store_vector

OUTPUTS, POINTS, TAPS = 4, 6, 3
BLOCK = POINTS * POINTS

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)  # Bᵀ
_WEIGHT = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24  # G
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # Aᵀ


def _transform(matrix: np.ndarray, gathers: bool, scatters: bool):
    """Make the micro-kernel (source, source step, target, target step) of y = L x Lᵀ, both blocks row by row.

    Without gathers, the entries of x lie `source step` bytes apart from the address `source`; with it, `source` is the
    address of a table of their addresses, to each of which `source step` is added. So it is with scatters for y.
    """
    size = matrix.shape

    @intrinsic
    def transform(typing_context, source, source_step, target, target_step):
        def generate(context, builder, signature, arguments):
            source, source_step, target, target_step = arguments

            def entry(base, step, table, number):
                if table:
                    base = builder.load(_pointer(builder, base, 8 * number, INT))
                    return _pointer(builder, builder.add(base, step), 0, FLOAT)
                return _pointer(builder, builder.add(base, builder.mul(step, INT(number))), 0, FLOAT)

            columns = []
            for j in range(size[1]):
                column = [
                    load_vector(builder, entry(source, source_step, gathers, i * size[1] + j)) for i in range(size[1])
                ]
                columns.append(_multiply(builder, matrix, column))
            for i in range(size[0]):
                row = _multiply(builder, matrix, [column[i] for column in columns])
                for j, value in enumerate(row):
                    store_vector(builder, value, entry(target, target_step, scatters, i * size[0] + j))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return transform


transform_input = _transform(_INPUT, gathers=True, scatters=False)  # Bᵀ d B
transform_weight = _transform(_WEIGHT, gathers=False, scatters=False)  # G g Gᵀ
transform_output = _transform(_OUTPUT, gathers=False, scatters=True)  # Aᵀ m A
transform_output_gradient = _transform(_OUTPUT.T, gathers=True, scatters=False)  # A dy Aᵀ
transform_weight_gradient = _transform(_WEIGHT.T, gathers=False, scatters=False)  # Gᵀ m G


def _pointer(builder, base, offset, kind):
    return builder.inttoptr(builder.add(base, INT(offset)), kind.as_pointer())


def _multiply(builder, matrix: np.ndarray, x: list) -> list:
    """Emit y = L x for vectors x, with as few operations as the pairs of opposite points allow."""
    rows, columns = matrix.shape
    matrix, x = matrix.copy(), list(x)
    for j in range(columns - 1):
        a, b = matrix[:, j], matrix[:, j + 1]
        if np.array_equal(abs(a), abs(b)) and np.count_nonzero(a) > 1:
            same = a == b
            x[j], x[j + 1] = builder.fadd(x[j], x[j + 1]), builder.fsub(x[j], x[j + 1])
            matrix[:, j], matrix[:, j + 1] = np.where(same, a, 0), np.where(same, 0, a)
    y: list = []
    while len(y) < rows:
        row = matrix[len(y)]
        following = matrix[len(y) + 1] if len(y) + 1 < rows else row
        even, odd = np.where(row == following, row, 0), np.where(row == -following, row, 0)
        if np.array_equal(even + odd, row) and even.any() and odd.any():
            (factor, sum_even), (odd_factor, sum_odd) = _sum(builder, even, x), _sum(builder, odd, x)
            sum_even = _scale(builder, factor, sum_even)
            y.append(_add_scaled(builder, sum_even, odd_factor, sum_odd))
            y.append(_add_scaled(builder, sum_even, -odd_factor, sum_odd))
        else:
            y.append(_scale(builder, *_sum(builder, row, x)))
    return y


def _sum(builder, coefficients: np.ndarray, x: list):
    """Emit Σ_j c_j x_j; returns (f, s) with the sum f s, f chosen so that s needs one operation less."""
    chosen = np.flatnonzero(coefficients)
    ones = [j for j in chosen if coefficients[j] == 1]
    first = ones[0] if ones else chosen[0]
    factor, total = coefficients[first], x[first]
    for j in chosen:
        if j != first:
            total = _add_scaled(builder, total, coefficients[j] / factor, x[j])
    return factor, total


def _scale(builder, factor: float, value):
    return value if factor == 1 else builder.fmul(_constant(factor), value)


def _add_scaled(builder, total, factor: float, value):
    if abs(factor) == 1:
        return builder.fadd(total, value) if factor > 0 else builder.fsub(total, value)
    return fused(builder, _constant(factor), value, total)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [float(value)] * VECTOR.count)
