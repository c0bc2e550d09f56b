"""Micro-kernels as LLVM IR: the innermost loops, with explicit vectors and accumulators that stay in registers.

numba's own vectoriser keeps only a part of a matrix tile in registers; here each accumulator is a phi node of a vector
type, so LLVM can do nothing else (docs/decisions/kernels.md has the numbers). Everything works on addresses (int64)
and counts in float32 elements, because passing numba arrays costs reference counting at every call. LLVM lowers the
same IR to AVX-512, AVX2, NEON or SSE; only the tile's shape depends on the host.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _host_features() -> set[str]:
    """Names of the features that numba compiles for (NUMBA_CPU_FEATURES can restrict them)."""
    text = config.CPU_FEATURES if config.CPU_FEATURES is not None else llvm.get_host_cpu_features().flatten()
    return {name[1:] for name in text.split(",") if name.startswith("+")}


def _tile_shape(features: set[str]) -> tuple[int, int]:
    """Return (floats a vector, rows a tile): rows x 2 accumulators must fit beside 3 registers of operands."""
    if "avx512f" in features:
        return 16, 12  # 32 registers
    if "avx2" in features or "avx" in features:
        return 8, 6  # 16 registers
    return 4, 6  # NEON has 32 registers, SSE 16


LANES, ROWS = _tile_shape(_host_features())
VECTORS = 2
COLUMNS = LANES * VECTORS
UNROLL = 4
BYTES = 4
# What `extended_tile` does to a sum, and which of it goes together.
ADD, BIAS, RECTIFY, MASK = 1, 2, 4, 8
EXTRAS = (0, ADD, BIAS, BIAS | RECTIFY, ADD | RECTIFY, MASK, ADD | MASK)

FLOAT = ir.FloatType()
INT = ir.IntType(64)
INDEX = ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)
_int64 = types.int64


def _constant(n: int) -> ir.Constant:
    return ir.Constant(INT, n)


def _pointer(builder, address):
    return builder.inttoptr(address, FLOAT.as_pointer())


def _at(builder, base, offset):
    return builder.gep(base, [offset], source_etype=FLOAT)


def load_vector(builder, pointer, kind=VECTOR):
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=BYTES)


def store_vector(builder, value, pointer):
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=BYTES)


def fused(builder, a, b, c):
    """a b + c. fmuladd, not fma: a host without fused multiply-add gets a product and a sum, not a call of libm."""
    name = "llvm.fmuladd.f32" if a.type == FLOAT else f"llvm.fmuladd.v{LANES}f32"
    return builder.call(
        cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name), [a, b, c]
    )


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INDEX, LANES), lanes))


def _splat(builder, scalar):
    undefined = ir.Constant(VECTOR, ir.Undefined)
    vector = builder.insert_element(undefined, scalar, ir.Constant(INDEX, 0))
    return _shuffle(builder, vector, undefined, [0] * LANES)


@intrinsic
def address(typing_context, array):
    """Return the address of an array's first element."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, INT)

    return _int64(array), generate


@intrinsic
def load(typing_context, source):
    """Return the float32 at an address."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(builder, arguments[0]), align=BYTES)

    return types.float32(_int64), generate


@intrinsic
def store(typing_context, value, target):
    """Write a float32 to an address."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[0], _pointer(builder, arguments[1]), align=BYTES)
        return context.get_dummy_value()

    return types.void(types.float32, _int64), generate


@intrinsic
def store_integer(typing_context, value, target):
    """Write an int64 to an address."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[0], builder.inttoptr(arguments[1], INT.as_pointer()))
        return context.get_dummy_value()

    return types.void(_int64, _int64), generate


@intrinsic
def prefetch(typing_context, address, writes):
    """Ask for the cache line at an address, to be read or (writes = 1) written soon; any address will do."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [FLOAT.as_pointer(), *[ir.IntType(32)] * 3])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_l2, data = (ir.Constant(ir.IntType(32), n) for n in (2, 1))
        reads, writes = (ir.Constant(ir.IntType(32), n) for n in (0, 1))
        for_reading, for_writing, done = (builder.append_basic_block(name) for name in ("reading", "writing", "done"))
        builder.cbranch(builder.icmp_signed("==", arguments[1], _constant(0)), for_reading, for_writing)
        for block, use in ((for_reading, reads), (for_writing, writes)):
            builder.position_at_end(block)
            builder.call(hint, [_pointer(builder, arguments[0]), use, to_l2, data])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(_int64, _int64), generate


@intrinsic
def add_vector(typing_context, source, target):
    """Add LANES floats at one address to those at another."""

    def generate(context, builder, signature, arguments):
        source, target = (_pointer(builder, argument) for argument in arguments)
        store_vector(builder, builder.fadd(load_vector(builder, target), load_vector(builder, source)), target)
        return context.get_dummy_value()

    return types.void(_int64, _int64), generate


@intrinsic
def copy_vector(typing_context, source, target):
    """Copy LANES floats from one address to another."""

    def generate(context, builder, signature, arguments):
        source, target = (_pointer(builder, argument) for argument in arguments)
        store_vector(builder, load_vector(builder, source), target)
        return context.get_dummy_value()

    return types.void(_int64, _int64), generate


@intrinsic
def clear_vector(typing_context, target):
    """Write LANES zeros to an address."""

    def generate(context, builder, signature, arguments):
        store_vector(builder, ir.Constant(VECTOR, [0.0] * LANES), _pointer(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(_int64), generate


@intrinsic(prefer_literal=True)
def position_table(typing_context, table, size, image, outside, row, column, height, width, pixel):
    """Write the addresses of size x size positions of an image from (row, column) on, row by row.

    The image has height x width positions, `pixel` bytes each; for those beyond it the table gets `outside`.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    count = size.literal_value

    def generate(context, builder, signature, arguments):
        table, _, image, outside, row, column, height, width, pixel = arguments
        table = builder.inttoptr(table, INT.as_pointer())

        def inside(start, length):
            # One unsigned comparison says both: not negative, and less than the length.
            return [builder.icmp_unsigned("<", builder.add(start, _constant(k)), length) for k in range(count)]

        row_inside, column_inside = inside(row, height), inside(column, width)
        across = builder.mul(width, pixel)
        start = builder.add(image, builder.add(builder.mul(row, across), builder.mul(column, pixel)))
        for i in range(count):
            address = start
            for j in range(count):
                value = builder.select(builder.and_(row_inside[i], column_inside[j]), address, outside)
                builder.store(value, builder.gep(table, [_constant(i * count + j)], source_etype=INT))
                address = builder.add(address, pixel)
            start = builder.add(start, across)
        return context.get_dummy_value()

    return types.void(_int64, size, *[_int64] * 7), generate


@intrinsic
def transpose_block(typing_context, source, source_stride, target, target_stride):
    """target[j, i] = source[i, j] for a block of LANES x LANES floats, in registers; strides are those of the rows."""

    def generate(context, builder, signature, arguments):
        source, target = _pointer(builder, arguments[0]), _pointer(builder, arguments[2])
        row = [
            load_vector(builder, _at(builder, source, builder.mul(arguments[1], _constant(r)))) for r in range(LANES)
        ]
        # Each pass exchanges bit `distance` of the row number with the same bit of the column number.
        distance = 1
        while distance < LANES:
            kept = [j if not j & distance else LANES + j - distance for j in range(LANES)]
            moved = [j + distance if not j & distance else LANES + j for j in range(LANES)]
            for r in range(LANES):
                if not r & distance:
                    a, b = row[r], row[r + distance]
                    row[r], row[r + distance] = _shuffle(builder, a, b, kept), _shuffle(builder, a, b, moved)
            distance *= 2
        for r in range(LANES):
            store_vector(builder, row[r], _at(builder, target, builder.mul(arguments[3], _constant(r))))
        return context.get_dummy_value()

    return types.void(*[_int64] * 4), generate


@intrinsic
def product_tile(typing_context, rows, columns, add, a, a_row, a_step, b, c, c_row, depth):
    """c[r, j] = (c[r, j] if add) + Σ_k a[r, k] b[k, j] for `rows` (1 to ROWS) rows and LANES or COLUMNS columns.

    a, b, c are addresses, a_row and a_step the strides of a over r and k, b is packed as (depth, columns), c_row is the
    stride of c over r. Every element is one chain of fused multiply-adds in the order of k, so it does not depend on
    which tile computes it.
    """

    def generate(context, builder, signature, arguments):
        _for_each_shape(builder, _emit_tile, *arguments)
        return context.get_dummy_value()

    return types.void(_int64, _int64, types.boolean, *[_int64] * 7), generate


@intrinsic
def extended_tile(typing_context, rows, columns, extra, a, a_row, a_step, b, c, c_row, depth, other):
    """Like `product_tile`, with more done to every sum before it is stored.

    extra is 0 or ADD: c is added; with RECTIFY: then max(..., 0); or BIAS: other[j] is added, RECTIFY too; or MASK:
    0 is stored where other[r, j], which lies as c does, is not positive, ADD too.
    """

    def generate(context, builder, signature, arguments):
        rows, columns, *operands = arguments
        _for_each_shape(builder, _emit_extended_tile, rows, columns, *operands)
        return context.get_dummy_value()

    return types.void(*[_int64] * 11), generate


@intrinsic
def sum_vectors(typing_context, source, step, depth, target):
    """target[j] = Σ_k source[k, j] for LANES columns, `step` floats from row to row."""

    def generate(context, builder, signature, arguments):
        source, step, depth, target = arguments
        source, target = _pointer(builder, source), _pointer(builder, target)

        def row(k):
            return load_vector(builder, _at(builder, source, builder.mul(k, step)))

        # As many sums as are unrolled, so that no addition waits for the one before.
        sums = [ir.Constant(VECTOR, [0.0] * LANES)] * UNROLL
        unrolled = builder.and_(depth, _constant(-UNROLL))
        turns = builder.sdiv(unrolled, _constant(UNROLL))

        def add_turn(turn, sums):
            first = builder.mul(turn, _constant(UNROLL))
            return [builder.fadd(total, row(builder.add(first, _constant(u)))) for u, total in enumerate(sums)]

        sums = loop(builder, _constant(0), turns, 1, sums, add_turn)
        total = builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
        (total,) = loop(builder, unrolled, depth, 1, [total], lambda k, sums: [builder.fadd(sums[0], row(k))])
        store_vector(builder, total, target)
        return context.get_dummy_value()

    return types.void(*[_int64] * 4), generate


@intrinsic
def gathered_tile(typing_context, columns, sources, pitch, taps, depth, b, targets, offset):
    """c[r, j] = Σ_tk a[t, r, k] b[t, k, j] for ROWS rows and LANES or COLUMNS columns, rows that lie anywhere.

    `sources` is a table (taps, pitch) of the addresses of a[t, r], `targets` a table (ROWS,) of those of c[r], to which
    `offset` bytes are added; b is packed as (taps, depth, columns).
    """

    def emit(builder, vectors, sources, pitch, taps, depth, b, targets, offset):
        sources, targets = (builder.inttoptr(table, INT.as_pointer()) for table in (sources, targets))
        b = _pointer(builder, b)
        unrolled = builder.and_(depth, _constant(-UNROLL))

        def add_tap(tap, sums):
            first = builder.mul(tap, pitch)
            rows = [_entry(builder, sources, builder.add(first, _constant(r))) for r in range(ROWS)]
            panel = _packed_row(builder, b, builder.mul(tap, depth), vectors)

            def accumulate(k, sums):
                scalars = (builder.load(_at(builder, row, k), align=BYTES) for row in rows)
                return _multiply_add(builder, scalars, _columns(builder, panel, k, vectors), sums)

            sums = loop(builder, _constant(0), unrolled, UNROLL, sums, accumulate)
            return loop(builder, unrolled, depth, 1, sums, accumulate)

        sums = loop(builder, _constant(0), taps, 1, _zeros(ROWS, vectors), add_tap)
        for r in range(ROWS):
            row = builder.add(builder.ptrtoint(_entry(builder, targets, _constant(r)), INT), offset)
            _store_columns(builder, sums[r * vectors : (r + 1) * vectors], _pointer(builder, row))

    def generate(context, builder, signature, arguments):
        columns, *operands = arguments
        shapes = {LANES * vectors: (vectors,) for vectors in (1, VECTORS)}
        _switch(builder, columns, shapes, emit, operands)
        return context.get_dummy_value()

    return types.void(*[_int64] * 8), generate


@intrinsic
def gathered_outer_products(typing_context, rows, columns, add, sources, offset, b, c, c_row, depth):
    """c[r, j] = (c[r, j] if add) + Σ_k a[k, r] b[k, j] for `rows` (1 to ROWS) rows and LANES or COLUMNS columns.

    `sources` is a table (depth,) of the addresses of a[k], to which `offset` bytes are added; b is packed as
    (depth, columns).
    """

    def emit(builder, rows, vectors, add, sources, offset, b, c, c_row, depth):
        sources, b, c = builder.inttoptr(sources, INT.as_pointer()), _pointer(builder, b), _pointer(builder, c)

        def accumulate(k, sums):
            row = _pointer(builder, builder.add(builder.ptrtoint(_entry(builder, sources, k), INT), offset))
            scalars = (builder.load(_at(builder, row, _constant(r)), align=BYTES) for r in range(rows))
            return _multiply_add(builder, scalars, _columns(builder, b, k, vectors), sums)

        unrolled = builder.and_(depth, _constant(-UNROLL))
        sums = loop(builder, _constant(0), unrolled, UNROLL, _zeros(rows, vectors), accumulate)
        sums = loop(builder, unrolled, depth, 1, sums, accumulate)
        _store_tile(builder, sums, vectors, add, c, c_row)

    def generate(context, builder, signature, arguments):
        _for_each_shape(builder, emit, *arguments)
        return context.get_dummy_value()

    return types.void(_int64, _int64, types.boolean, *[_int64] * 6), generate


def _for_each_shape(builder, emit, rows, columns, *operands) -> None:
    """Emit a switch over `rows` (1 to ROWS) and `columns` (LANES or COLUMNS).

    In each case stands emit(builder, rows, vectors, *operands).
    """
    shapes = {
        number * COLUMNS + LANES * vectors: (number, vectors)
        for number in range(1, ROWS + 1)
        for vectors in (1, VECTORS)
    }
    _switch(builder, builder.add(builder.mul(rows, _constant(COLUMNS)), columns), shapes, emit, operands)


def _switch(builder, choice, cases: dict[int, tuple], emit, operands) -> None:
    """Emit a switch with emit(builder, *case, *operands) for each value of `choice` in `cases`, which has no other."""
    done, unreachable = (builder.append_basic_block(name) for name in ("done", "unreachable"))
    switch = builder.switch(choice, unreachable)
    for value, case in cases.items():
        block = builder.append_basic_block("case")
        switch.add_case(_constant(value), block)
        builder.position_at_end(block)
        emit(builder, *case, *operands)
        builder.branch(done)
    builder.position_at_end(unreachable)
    builder.unreachable()
    builder.position_at_end(done)


def _entry(builder, table, number):
    """Load the address that a table holds at a place."""
    return _pointer(builder, builder.load(builder.gep(table, [number], source_etype=INT)))


def _zeros(rows, vectors):
    return [ir.Constant(VECTOR, [0.0] * LANES)] * (rows * vectors)


def _packed_row(builder, panel, k, vectors):
    return _at(builder, panel, builder.mul(k, _constant(LANES * vectors)))


def _columns(builder, panel, k, vectors):
    """Load row k of a panel packed as (depth, vectors x LANES)."""
    row = _packed_row(builder, panel, k, vectors)
    return [load_vector(builder, _at(builder, row, _constant(v * LANES))) for v in range(vectors)]


def _multiply_add(builder, scalars, columns, sums):
    """Return the sums (rows x vectors) plus the outer product of one scalar for each row with the columns."""
    following = []
    for r, scalar in enumerate(scalars):
        factor = _splat(builder, scalar)
        own = sums[r * len(columns) : (r + 1) * len(columns)]
        following += [fused(builder, factor, column, total) for column, total in zip(columns, own, strict=True)]
    return following


def _store_columns(builder, values, row) -> None:
    for v, value in enumerate(values):
        store_vector(builder, value, _at(builder, row, _constant(v * LANES)))


def _store_tile(builder, sums, vectors, add, c, c_row) -> None:
    """Store a tile of sums, rows x vectors, or add it to what is there; the two differ in nothing that takes time."""
    rows = [_at(builder, c, builder.mul(c_row, _constant(r))) for r in range(len(sums) // vectors)]
    with builder.if_else(add) as (added, fresh):
        with added:
            for r, row in enumerate(rows):
                present = _columns(builder, row, _constant(0), vectors)
                own = sums[r * vectors : (r + 1) * vectors]
                _store_columns(builder, [builder.fadd(*pair) for pair in zip(present, own, strict=True)], row)
        with fresh:
            for r, row in enumerate(rows):
                _store_columns(builder, sums[r * vectors : (r + 1) * vectors], row)


def _emit_tile(builder, rows: int, vectors: int, add, a, a_row, a_step, b, c, c_row, depth) -> None:
    """Emit the tile of a fixed shape: the loop over k with rows x vectors accumulators, then the stores."""
    sums = _emit_sums(builder, rows, vectors, a, a_row, a_step, b, depth)
    _store_tile(builder, sums, vectors, add, _pointer(builder, c), c_row)


def _emit_extended_tile(builder, rows, vectors, extra, a, a_row, a_step, b, c, c_row, depth, other) -> None:
    sums = _emit_sums(builder, rows, vectors, a, a_row, a_step, b, depth)
    c, other, zero = _pointer(builder, c), _pointer(builder, other), ir.Constant(VECTOR, [0.0] * LANES)

    def emit(builder, extra: int) -> None:
        bias = _columns(builder, other, _constant(0), vectors) if extra & BIAS else None
        for r in range(rows):
            place = builder.mul(c_row, _constant(r))
            row, values = _at(builder, c, place), sums[r * vectors : (r + 1) * vectors]
            if extra & (ADD | BIAS):
                present = bias or _columns(builder, row, _constant(0), vectors)
                values = [builder.fadd(*pair) for pair in zip(present, values, strict=True)]
            if extra & RECTIFY:  # NaN stays NaN: a diverged seed must be seen
                values = [builder.select(builder.fcmp_ordered("<", v, zero), zero, v) for v in values]
            if extra & MASK:
                seen = _columns(builder, _at(builder, other, place), _constant(0), vectors)
                values = [
                    builder.select(builder.fcmp_ordered(">", x, zero), v, zero)
                    for x, v in zip(seen, values, strict=True)
                ]
            _store_columns(builder, values, row)

    _switch(builder, extra, {choice: (choice,) for choice in EXTRAS}, emit, ())


def _emit_sums(builder, rows: int, vectors: int, a, a_row, a_step, b, depth) -> list:
    """Emit the loop over k of a tile of a fixed shape; return its rows x vectors sums."""
    a, b = _pointer(builder, a), _pointer(builder, b)
    a_rows = [_at(builder, a, builder.mul(a_row, _constant(r))) for r in range(rows)]

    def accumulate(k, sums):
        step = builder.mul(k, a_step)
        scalars = (builder.load(_at(builder, row, step), align=BYTES) for row in a_rows)
        return _multiply_add(builder, scalars, _columns(builder, b, k, vectors), sums)

    unrolled = builder.and_(depth, _constant(-UNROLL))
    sums = loop(builder, _constant(0), unrolled, UNROLL, _zeros(rows, vectors), accumulate)
    return loop(builder, unrolled, depth, 1, sums, accumulate)


def loop(builder, start, stop, stride, values, body):
    """Emit `for k in range(start, stop, stride)` with `values` in phi nodes, `body` written `stride` times a turn."""
    before = builder.block
    test, turn, after = (builder.append_basic_block(name) for name in ("test", "turn", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    k = builder.phi(INT)
    k.add_incoming(start, before)
    current = [builder.phi(value.type) for value in values]
    for phi, value in zip(current, values, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", k, stop), turn, after)
    builder.position_at_end(turn)
    following = current
    for u in range(stride):
        following = body(builder.add(k, _constant(u)), following)
    k.add_incoming(builder.add(k, _constant(stride)), builder.block)
    for phi, value in zip(current, following, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(test)
    builder.position_at_end(after)
    return current
