"""Arrays at addresses, and float32 constants in the integers of a launch."""

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from basiscli.kernels.cpu.compiling import serial

_INT = ir.IntType(64)


def bits(value: float) -> int:
    """Return a float32 as an integer of a launch; `real` is the way back."""
    return int(np.float32(value).view(np.uint32))


@intrinsic
def real(typing_context, integer):
    """Return the float32 that `bits` turned into an integer."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.trunc(arguments[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), generate


@intrinsic
def power_of_two(typing_context, exponent):
    """Return 2 to an exponent (int32, -126 to 127) as float32."""

    def generate(context, builder, signature, arguments):
        kind = ir.IntType(32)
        biased = builder.add(arguments[0], ir.Constant(kind, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(kind, 23)), ir.FloatType())

    return types.float32(types.int32), generate


def _pointer(kind: types.Type):
    """Make what turns an address into a pointer to values of a type."""

    @intrinsic
    def pointer(typing_context, address):
        target = types.CPointer(kind)

        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(target))

        return target(types.int64), generate

    return pointer


_to_floats, _to_doubles = _pointer(types.float32), _pointer(types.float64)
_to_words, _to_octets = _pointer(types.int64), _pointer(types.uint8)


@serial
def floats(address, count):
    """Return the float32 array (count,) at an address."""
    return carray(_to_floats(address), (count,))


@serial
def doubles(address, count):
    """Return the float64 array (count,) at an address."""
    return carray(_to_doubles(address), (count,))


@serial
def words(address, count):
    """Return the int64 array (count,) at an address."""
    return carray(_to_words(address), (count,))


@serial
def octets(address, count):
    """Return the uint8 array (count,) at an address."""
    return carray(_to_octets(address), (count,))
