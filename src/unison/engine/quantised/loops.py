"""What happens between the products of a block? Norms, gates, attention over a memory.

A step of one token is hundreds of such small things, and each costs torch more in getting there
than in doing. Here they are loops over float32 numbers at addresses, compiled by numba: importing
this file needs it. No sum runs in an order that depends on the number of tokens or of slots: where
the same slots are seen, a token's answer is the same to the last bit alone and beside others. A
branch of a tree, whose slots lie elsewhere, may differ by rounding.
"""

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, no_type_check

import numba  # pyright: ignore[reportMissingImports]
import numpy as np
from numba import (  # pyright: ignore[reportMissingImports]
    carray,  # pyright: ignore[reportPrivateImportUsage]
    types,
)
from numba.extending import intrinsic  # pyright: ignore[reportMissingImports]

_LANES = 16  # so many side by side, none left over: vectors and single numbers round apart
_LOOSE: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},  # infinities keep their meaning
    "cache": True,  # beside this file, or where numba keeps such things
    "error_model": "numpy",  # no checks of divisors, which loops cannot be vectorised with
}
_PER_LN2 = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that whole multiples are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_TAYLOR = tuple(np.float32(1 / math.factorial(k)) for k in range(7, -1, -1))
_LEAST = np.float32(-87.0)  # exp of less is no normal number
_SHIFT = np.float32(128.5)
_LOWEST = np.finfo(np.float32).min


class Loops(NamedTuple):
    """Functions of addresses and sizes.

    Attributes:
        norm: (x, weight, y, rows, width, eps): y is the RMS norm of each row of x.
        gate: (x, y, rows, width): y is silu(first half) times second half of each row of x.
        attend: (qkv, cos, sin, keys, values, slots, sees, out, work, sizes): rotates queries and
            keys in place, writes keys and values into the memory and answers every query. ``sizes``
            are rows, tokens, heads of keys, queries of each, width of a head, slots seen, pairs
            that rotate, and the strides of the memory (row, head) and of ``sees`` (row, token).
    """

    norm: Callable[..., None]
    gate: Callable[..., None]
    attend: Callable[..., None]


@functools.cache
def compiled() -> Loops:
    """Return the functions, compiled for this CPU at the first call: some seconds."""
    real, whole = types.CPointer(types.float32), types.CPointer(types.int64)
    size, number, seen = types.int64, types.float32, types.CPointer(types.uint8)
    return Loops(
        _made(_norm, (real, real, real, size, size, number)),
        _made(_gate, (real, real, size, size)),
        _made(_attend, (real, real, real, real, real, whole, seen, real, real, whole)),
    )


def _made(body: Callable[..., None], kinds: tuple[Any, ...]) -> Callable[..., None]:
    function = numba.cfunc(types.void(*kinds), **_LOOSE)(body)
    plain = {types.int64: ctypes.c_int64, types.float32: ctypes.c_float}
    call = ctypes.CFUNCTYPE(None, *(plain.get(kind, ctypes.c_void_p) for kind in kinds))
    bound: Any = call(function.address)  # pyright: ignore[reportCallIssue, reportArgumentType]
    bound.keeps = function  # the code lives as long as its function
    return bound


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


@numba.njit(**_LOOSE, inline="always")
@no_type_check
def _exp(x: Any) -> Any:
    """exp(x) for x <= 88, to float32: 2^n times a Taylor series within half of ln 2."""
    x = x if x > _LEAST else _LEAST
    n = np.int32(x * _PER_LN2 + _SHIFT) - np.int32(128)  # cut towards 0, so made positive first
    whole = np.float32(n)
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    a, b, c, d, e, f, g, h = _TAYLOR
    series = ((((((a * r + b) * r + c) * r + d) * r + e) * r + f) * r + g) * r + h
    return series * _power_of_two(n)  # pyright: ignore[reportCallIssue]


@no_type_check
def _norm(x: Any, weight: Any, y: Any, rows: int, width: int, eps: float) -> None:
    for row in range(rows):
        start = row * width
        total = np.float32(0)
        for i in range(width):
            total += x[start + i] * x[start + i]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + eps)
        for i in range(width):
            y[start + i] = x[start + i] * scale * weight[i]


@no_type_check
def _gate(x: Any, y: Any, rows: int, width: int) -> None:
    for row in range(rows):
        into, first = row * width, row * 2 * width
        for i in range(width):
            v = x[first + i]
            small = -v if -v < -_LEAST else -_LEAST
            y[into + i] = v / (np.float32(1) + _exp(small)) * x[first + width + i]


@no_type_check
def _attend(  # noqa: PLR0913  one address a tensor
    qkv: Any, cos: Any, sin: Any, keys: Any, values: Any, slots: Any, sees: Any, out: Any,
    work: Any, sizes: Any,
) -> None:  # fmt: skip
    rows, tokens, few, group, width = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    seen, pairs, per_row, per_head = sizes[5], sizes[6], sizes[7], sizes[8]
    see_row, see_token = sizes[9], sizes[10]
    length = rows * tokens
    heads = carray(qkv, (length, (group + 2) * few, width))
    answers = carray(out, (length, few, group, width))
    cosines, sines = carray(cos, (length, pairs)), carray(sin, (length, pairs))
    shares = carray(work, (group, -(-seen // _LANES) * _LANES))
    memory = (rows - 1) * per_row + (few - 1) * per_head + seen * width
    all_keys, all_values = carray(keys, (memory,)), carray(values, (memory,))
    looks = carray(sees, ((rows - 1) * see_row + (tokens - 1) * see_token + seen,))
    for token in range(length):
        _rotate(heads[token, : (group + 1) * few], cosines[token], sines[token])
        for head in range(few):
            place = token // tokens * per_row + head * per_head + slots[token] * width
            all_keys[place : place + width] = heads[token, group * few + head]
            all_values[place : place + width] = heads[token, (group + 1) * few + head]
    for token in range(length):
        look = token // tokens * see_row + token % tokens * see_token
        for head in range(few):
            place = token // tokens * per_row + head * per_head
            there = all_keys[place : place + seen * width].reshape((seen, width))
            asked = heads[token, head * group : (head + 1) * group]
            _products(asked, there, looks[look : look + seen], shares)
            for one in range(group):
                _normalise(shares[one])
            there = all_values[place : place + seen * width].reshape((seen, width))
            _mix(shares, there, answers[token, head])


@numba.njit(**_LOOSE)
@no_type_check
def _rotate(heads: Any, cos: Any, sin: Any) -> None:
    pairs = cos.shape[0]
    for head in range(heads.shape[0]):
        for i in range(pairs):
            first, second = heads[head, i], heads[head, pairs + i]
            heads[head, i] = first * cos[i] - second * sin[i]
            heads[head, pairs + i] = second * cos[i] + first * sin[i]


@numba.njit(**_LOOSE)
@no_type_check
def _products(queries: Any, keys: Any, sees: Any, into: Any) -> None:
    """Write q k / sqrt(width) of every slot and query, -inf where unseen and in what is left."""
    scale = np.float32(1) / np.sqrt(np.float32(queries.shape[1]))
    into[:, keys.shape[0] :] = -np.float32(np.inf)
    for n in range(keys.shape[0]):
        if sees[n] == 0:
            into[:, n] = -np.float32(np.inf)
            continue
        for head in range(queries.shape[0]):
            total = np.float32(0)
            for i in range(queries.shape[1]):
                total += queries[head, i] * keys[n, i]
            into[head, n] = total * scale


@numba.njit(cache=True)
@no_type_check
def _sum(numbers: Any) -> Any:
    """Add one after the other: then zeros between change nothing, wherever they are."""
    total = np.float32(0)
    for i in range(len(numbers)):
        total += numbers[i]
    return total


@numba.njit(**_LOOSE)
@no_type_check
def _normalise(work: Any) -> None:
    """Turn products into shares that sum to 1, or 0 where nothing is seen."""
    top = _LOWEST
    for n in range(len(work)):
        top = work[n] if work[n] > top else top
    for n in range(len(work)):
        share = _exp(work[n] - top)
        work[n] = share if work[n] > -np.float32(np.inf) else np.float32(0)
    total = _sum(work)
    factor = np.float32(1) / total if total > 0 else np.float32(0)
    for n in range(len(work)):
        work[n] *= factor


@numba.njit(**_LOOSE)
@no_type_check
def _mix(shares: Any, values: Any, into: Any) -> None:
    """Write the values weighted by each query's shares."""
    into[:] = np.float32(0)
    for n in range(values.shape[0]):
        for head in range(into.shape[0]):
            share = shares[head, n]
            if share > 0:
                for i in range(values.shape[1]):
                    into[head, i] += share * values[n, i]
