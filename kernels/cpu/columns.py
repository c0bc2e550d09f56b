"""Micro-kernels that walk down some columns of row-major matrices: maps and sums with one constant a column.

Up to four vectors side by side, so that whole cache lines are used and all constants and sums stay in registers. Every
kernel takes (width, rows, stride, matrices..., constants..., results...): `width` columns, one of WIDTHS, the bytes
from row to row, and addresses.
"""

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from basiscli.kernels.cpu.micro import BYTES, FLOAT, INT, LANES, UNROLL, VECTOR, fused, load_vector, loop, store_vector

WIDTHS = (4 * LANES, 2 * LANES, LANES, 1)


def _kernel(matrices: int, constants: int, sums: int, body: Callable):
    """Make a micro-kernel of `body(builder, entries, constants, sums)`, which handles one entry of each matrix.

    With `sums`, it returns their new values, and the results are rows of sums; without, it returns the entry of the
    result, which is a matrix.
    """

    @intrinsic
    def walk(typing_context, width, rows, stride, *addresses):
        def generate(context, builder, signature, arguments):
            width, rows, stride, addresses = arguments
            addresses = cgutils.unpack_tuple(builder, addresses)
            done, unreachable = (builder.append_basic_block(name) for name in ("done", "unreachable"))
            switch = builder.switch(width, unreachable)
            for number in WIDTHS:
                case = builder.append_basic_block(f"width{number}")
                switch.add_case(INT(number), case)
                builder.position_at_end(case)
                emit(builder, number, rows, stride, addresses)
                builder.branch(done)
            builder.position_at_end(unreachable)
            builder.unreachable()
            builder.position_at_end(done)
            return context.get_dummy_value()

        def emit(builder, width, rows, stride, addresses):
            kind, step = (VECTOR, LANES) if width >= LANES else (FLOAT, 1)
            places = range(0, width, step)
            given, results = addresses[matrices : matrices + constants], addresses[matrices + constants :]
            fixed = [[load(builder, address, place, kind) for address in given] for place in places]
            zero = ir.Constant(kind, [0.0] * LANES if kind == VECTOR else 0.0)

            def turn(row, current):
                down = builder.mul(row, stride)
                following = []
                for n, place in enumerate(places):
                    entries = [
                        load(builder, builder.add(address, down), place, kind) for address in addresses[:matrices]
                    ]
                    value = body(builder, entries, fixed[n], current[n * sums : (n + 1) * sums])
                    if sums:
                        following += value
                    else:
                        store(builder, value, builder.add(results[0], down), place)
                return following

            unrolled = builder.and_(rows, INT(-UNROLL))
            total = loop(builder, INT(0), unrolled, UNROLL, [zero] * (len(places) * sums), turn)
            total = loop(builder, unrolled, rows, 1, total, turn)
            for n, value in enumerate(total):
                store(builder, value, results[n % sums], places[n // sums])

        return types.void(*[types.int64] * 3, types.StarArgTuple.from_types(addresses)), generate

    def load(builder, address, place, kind):
        return load_vector(builder, pointer(builder, address, place), kind)

    def store(builder, value, address, place):
        store_vector(builder, value, pointer(builder, address, place))

    def pointer(builder, address, place):
        return builder.inttoptr(builder.add(address, INT(BYTES * place)), FLOAT.as_pointer())

    return walk


def _add_deviations(builder, entries, constants, sums):
    deviation = builder.fsub(entries[0], constants[0])
    return [builder.fadd(sums[0], deviation), fused(builder, deviation, deviation, sums[1])]


def _add_products(builder, entries, constants, sums):
    deviation = builder.fsub(entries[1], constants[0])
    return [builder.fadd(sums[0], entries[0]), fused(builder, entries[0], deviation, sums[1])]


def _add_powers(builder, entries, constants, sums):
    x = entries[0]
    square = builder.fmul(x, x)
    moved = builder.fadd(x, constants[0])
    size = builder.select(builder.fcmp_ordered("<", moved, ir.Constant(moved.type, None)), builder.fneg(moved), moved)
    return [
        builder.fadd(sums[0], x),
        builder.fadd(sums[1], square),
        fused(builder, square, x, sums[2]),
        fused(builder, square, square, sums[3]),
        builder.fadd(sums[4], size),
    ]


def _affine(builder, entries, constants, sums):
    return fused(builder, entries[0], constants[0], constants[1])


def _combine(builder, entries, constants, sums):
    mean, a, b, c = constants
    return fused(builder, a, entries[0], fused(builder, b, builder.fsub(entries[1], mean), c))


def _rectified(builder, value):
    # Written so that NaN stays NaN: a diverged seed must be seen.
    zero = ir.Constant(value.type, [0.0] * LANES if value.type == VECTOR else 0.0)
    return builder.select(builder.fcmp_ordered("<", value, zero), zero, value)


def _masked(builder, dy, x, factor, offset):
    y = fused(builder, x, factor, offset)
    zero = ir.Constant(y.type, [0.0] * LANES if y.type == VECTOR else 0.0)
    return builder.select(builder.fcmp_ordered(">", y, zero), dy, zero)


def _affine_relu(builder, entries, constants, sums):
    return _rectified(builder, _affine(builder, entries, constants, sums))


def _affine_add_relu(builder, entries, constants, sums):
    return _rectified(builder, builder.fadd(_affine(builder, entries[:1], constants, sums), entries[1]))


def _add_masked_products(builder, entries, constants, sums):
    mean, factor, offset = constants
    return _add_products(builder, [_masked(builder, *entries, factor, offset), entries[1]], [mean], sums)


def _combine_masked(builder, entries, constants, sums):
    *combined, factor, offset = constants
    return _combine(builder, [_masked(builder, *entries, factor, offset), entries[1]], combined, sums)


# (x; pivot; Σ(x - pivot), Σ(x - pivot)²)
sum_deviations = _kernel(1, 1, 2, _add_deviations)
# (dy, x; mean; Σ dy, Σ dy (x - mean))
sum_products = _kernel(2, 1, 2, _add_products)
# (x; offset; Σ x, Σ x², Σ x³, Σ x⁴, Σ |x + offset|)
sum_powers = _kernel(1, 1, 5, _add_powers)
# (x; a, b; a x + b)
affine = _kernel(1, 2, 0, _affine)
# (dy, x; mean, a, b, c; a dy + b (x - mean) + c)
combine = _kernel(2, 4, 0, _combine)
# The same with a ReLU after the affine map: max(a x + b, 0), max(a x + b + skip, 0), and dy only where a x + b > 0.
affine_relu = _kernel(1, 2, 0, _affine_relu)
affine_add_relu = _kernel(2, 2, 0, _affine_add_relu)
sum_masked_products = _kernel(2, 3, 2, _add_masked_products)
combine_masked = _kernel(2, 6, 0, _combine_masked)
