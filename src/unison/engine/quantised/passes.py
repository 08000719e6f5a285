"""What lies between two products of bytes? One pass that scales, bends and rounds each vector.

A product of bytes is exact, so it is these passes that decide how fast a layer is: each reads a
vector once and writes it once. They are compiled by numba: importing this file needs it. A vector
is worked on by itself, always in the same order, so its answer is the same beside any others.
"""

import ctypes
import functools
from typing import Any, NamedTuple, no_type_check

import numba  # pyright: ignore[reportMissingImports]
import numpy as np
from numba import types  # pyright: ignore[reportMissingImports]

from unison.engine.quantised.native import LOOSE, bits_of, byte, exp, real, real_of, whole, word

_ABSOLUTE = np.int32(0x7FFFFFFF)
_MOST, _SHARE = np.float32(127), np.float32(1 / 127)
_NOTHING = np.float32(2.0**-100)  # a vector whose entries are all below this is read as zeros
_FAR = np.float32(87)  # exp of more is close to the end of float32
_CUBIC, _ROOT = np.float32(0.044715), np.float32(2 * 0.7978845608028654)


class Pass(NamedTuple):
    """A compiled pass; ``keeps`` holds its code."""

    address: int
    keeps: Any


@functools.cache
def compiled(name: str) -> Pass:
    """Return the pass called ``rounded``, ``finished``, ``gelu`` or ``gated``.

    It is a function of seven int64: the address of a table, three that it does not read, the first
    vector and the one after the last, and one more that it does not read: see ``kernel.share``.
    The table holds the width of what is answered and addresses: of the numbers (of sums, which are
    overwritten), of a byte for each that is answered and a scale for each vector; for sums also of
    the scale of each vector that was multiplied, of each column, and of the bias (0: none).
    """
    made = {"rounded": _rounded, "finished": _finished, "gelu": _gelu, "gated": _gated}[name]
    function = numba.cfunc(types.void(*[types.int64] * 7), **LOOSE)(made)
    address = ctypes.cast(function.ctypes, ctypes.c_void_p).value
    return Pass(address or 0, function)


@numba.njit(cache=True, error_model="numpy")  # to the last bit what torch makes of it
@no_type_check
def _bytes(x: Any, start: int, levels: Any, into: int, width: int) -> Any:
    """Write the bytes of a vector that is given by its bits; return their scale."""
    top = np.int32(0)
    for i in range(width):  # bits of positive numbers are in the order of the numbers
        size = np.int32(x[start + i] & _ABSOLUTE)
        top = size if size > top else top
    most = real_of(top)
    factor = np.float32(0) if most < _NOTHING else _MOST / most
    for i in range(width):
        levels[into + i] = np.int8(np.int32(np.rint(real_of(x[start + i]) * factor)))
    return np.float32(0) if most < _NOTHING else most * _SHARE


@no_type_check
def _rounded(at: int, a: int, b: int, c: int, first: int, last: int, d: int) -> None:
    told = whole(at)
    width, x, levels, scales = told[0], word(told[1]), byte(told[2]), real(told[3])
    for row in range(first, last):
        scales[row] = _bytes(x, row * width, levels, row * width, width)


@numba.njit(**LOOSE)
@no_type_check
def _scaled(sums: Any, start: int, scale: Any, columns: Any, bias: Any, width: int) -> None:
    """Write over sums the bits of the numbers they stand for."""
    for i in range(width):
        sums[start + i] = bits_of(np.float32(sums[start + i]) * (scale * columns[i]) + bias[i])


@numba.njit(**LOOSE)
@no_type_check
def _scaled_alone(sums: Any, start: int, scale: Any, columns: Any, width: int) -> None:
    for i in range(width):
        sums[start + i] = bits_of(np.float32(sums[start + i]) * (scale * columns[i]))


@numba.njit(**LOOSE)
@no_type_check
def _answered(sums: Any, start: int, scale: Any, told: Any, width: int) -> None:
    if told[6] == 0:
        _scaled_alone(sums, start, scale, real(told[5]), width)
    else:
        _scaled(sums, start, scale, real(told[5]), real(told[6]), width)


@no_type_check
def _finished(at: int, a: int, b: int, c: int, first: int, last: int, d: int) -> None:
    told = whole(at)
    width, sums, scales = told[0], word(told[1]), real(told[4])
    for row in range(first, last):
        _answered(sums, row * width, scales[row], told, width)


@numba.njit(**LOOSE)
@no_type_check
def _bent(x: Any, start: int, width: int) -> None:
    """Write over numbers their GELU, tanh form, as x times a logistic function."""
    for i in range(width):
        v = real_of(x[start + i])
        inner = -_ROOT * (v + _CUBIC * v * v * v)
        inner = inner if inner < _FAR else _FAR
        x[start + i] = bits_of(v / (np.float32(1) + exp(inner)))


@no_type_check
def _gelu(at: int, a: int, b: int, c: int, first: int, last: int, d: int) -> None:
    told = whole(at)
    width, sums, levels, out = told[0], word(told[1]), byte(told[2]), real(told[3])
    scales = real(told[4])
    for row in range(first, last):
        start = row * width
        _answered(sums, start, scales[row], told, width)
        _bent(sums, start, width)
        out[row] = _bytes(sums, start, levels, start, width)


@numba.njit(**LOOSE)
@no_type_check
def _silenced(x: Any, start: int, width: int) -> None:
    """Write over the first half of a vector silu(first half) times the second."""
    for i in range(width):
        v = real_of(x[start + i])
        inner = -v if -v < _FAR else _FAR
        up = real_of(x[start + width + i])
        x[start + i] = bits_of(v / (np.float32(1) + exp(inner)) * up)


@no_type_check
def _gated(at: int, a: int, b: int, c: int, first: int, last: int, d: int) -> None:
    told = whole(at)
    width, sums, levels, out = told[0], word(told[1]), byte(told[2]), real(told[3])
    scales = real(told[4])
    for row in range(first, last):
        start = row * 2 * width
        _answered(sums, start, scales[row], told, 2 * width)
        _silenced(sums, start, width)
        out[row] = _bytes(sums, start, levels, row * width, width)
