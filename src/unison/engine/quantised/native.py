"""Which operations do compiled loops share? Addresses as arrays, bits as numbers, exp.

For numba: importing this file needs it. What is compiled with ``LOOSE`` may reorder sums and fuse
products with them; infinities keep their meaning.
"""

import math
from typing import Any, no_type_check

import numba  # pyright: ignore[reportMissingImports]
import numpy as np
from llvmlite import ir
from numba import types  # pyright: ignore[reportMissingImports]
from numba.extending import intrinsic  # pyright: ignore[reportMissingImports]

LOOSE: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "cache": True,  # beside the file, or where numba keeps such things
    "error_model": "numpy",  # no checks of divisors, which loops cannot be vectorised with
}
_PER_LN2 = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that whole multiples are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(7, -1, -1))
LEAST = np.float32(-87.0)  # exp of less is no normal number
_SHIFT = np.float32(128.5)


def _at(kind: Any) -> Any:
    """Return a function that makes an address a pointer to numbers of a kind."""

    @intrinsic
    @no_type_check
    def pointer(typing: Any, address: Any) -> Any:
        @no_type_check
        def made(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), made

    return pointer


real, whole, seen = _at(types.float32), _at(types.int64), _at(types.uint8)
word, byte = _at(types.int32), _at(types.int8)


def _read_as(kind: Any, other: Any) -> Any:
    """Return a function that reads the bits of one kind of number as another of the same size."""

    @intrinsic
    @no_type_check
    def cast(typing: Any, value: Any) -> Any:
        @no_type_check
        def made(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], context.get_value_type(other))

        return other(kind), made

    return cast


bits_of, real_of = _read_as(types.float32, types.int32), _read_as(types.int32, types.float32)


@intrinsic
@no_type_check
def called(typing: Any, function: Any, argument: Any) -> Any:
    """Call the function at an address with an address."""

    @no_type_check
    def made(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(types.int64)]).as_pointer()
        builder.call(builder.inttoptr(values[0], kind), [values[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), made


@intrinsic
@no_type_check
def _power_of_two(typing: Any, exponent: Any) -> Any:
    """2^n as a float32 whose exponent bits are n + 127."""

    @no_type_check
    def made(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.get_value_type(types.int32)
        bits = builder.shl(builder.add(values[0], kind(127)), kind(23))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.int32), made


@numba.njit(**LOOSE, inline="always")
@no_type_check
def exp(x: Any) -> Any:
    """Return e^x for x <= 88, to float32: 2^n times a Taylor series within half of ln 2."""
    x = x if x > LEAST else LEAST
    n = np.int32(x * _PER_LN2 + _SHIFT) - np.int32(128)  # cut towards 0, so made positive first
    steps = np.float32(n)
    r = x - steps * _LN2_HIGH - steps * _LN2_LOW
    a, b, c, d, e, f, g, h = _TAYLOR
    series = ((((((a * r + b) * r + c) * r + d) * r + e) * r + f) * r + g) * r + h
    return series * _power_of_two(n)  # pyright: ignore[reportCallIssue]
