"""What happens in a block? Norms, gates, attention over a memory, and products between them.

A step of one token is hundreds of such small things, and each costs Python and torch more in
getting there than in doing. Here a block is one function of float32 numbers at addresses, compiled
by numba: importing this file needs it. The products are those of ``kernel``. No sum runs in an
order that depends on the number of tokens or of slots: where the same slots are seen, a token's
answer is the same to the last bit alone and beside others. A branch of a tree, whose slots lie
elsewhere, may differ by rounding.
"""

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any, no_type_check

import numba  # pyright: ignore[reportMissingImports]
import numpy as np
from llvmlite import ir
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


@functools.cache
def compiled() -> Callable[[int, float, float], None]:
    """Return what reads a block, compiled for this CPU at the first call: some seconds.

    It is given the address of a table of int64 and the eps of both norms. The table holds

    * the sizes of ``_attend``, the width of the stream and the inner width of the MLP;
    * addresses: of the stream, of room for what follows the first norm (and the second), the first
      map, the attention, the second map, the third and the gate, and of the answer;
    * of the weights of both norms, of the biases of the first two maps (0: none);
    * of cos, sin, keys, values, slots, ``sees`` and room for the shares of one head of keys;
    * of the function that runs a pass of a product, the bytes of a pass's job, the number of
      passes of a product, and the jobs of all four products: see ``kernel.jobs``.
    """
    kinds = (types.int64, types.float32, types.float32)
    function = numba.cfunc(types.void(*kinds), **_LOOSE)(_block)
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_float, ctypes.c_float)
    bound: Any = call(function.address)  # pyright: ignore[reportCallIssue, reportArgumentType]
    bound.keeps = function  # the code lives as long as its function
    return bound


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


_real, _whole, _seen = _at(types.float32), _at(types.int64), _at(types.uint8)


@intrinsic
@no_type_check
def _called(typing: Any, function: Any, argument: Any) -> Any:
    """Call the function at an address with an address."""

    @no_type_check
    def made(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        whole = context.get_value_type(types.int64)
        kind = ir.FunctionType(ir.VoidType(), [whole]).as_pointer()
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


@numba.njit(**_LOOSE)
@no_type_check
def _norm(x: Any, weight: Any, y: Any, rows: int, width: int, eps: float) -> None:
    """Write the RMS norm of each row of x."""
    for row in range(rows):
        start = row * width
        total = np.float32(0)
        for i in range(width):
            total += x[start + i] * x[start + i]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + eps)
        for i in range(width):
            y[start + i] = x[start + i] * scale * weight[i]


@numba.njit(**_LOOSE)
@no_type_check
def _gate(x: Any, y: Any, rows: int, width: int) -> None:
    """Write silu(first half) times second half of each row of x."""
    for row in range(rows):
        into, first = row * width, row * 2 * width
        for i in range(width):
            v = x[first + i]
            small = -v if -v < -_LEAST else -_LEAST
            y[into + i] = v / (np.float32(1) + _exp(small)) * x[first + width + i]


@numba.njit(cache=True)
@no_type_check
def _added(x: Any, y: Any, length: int) -> None:
    """Add x to y."""
    for i in range(length):
        y[i] = y[i] + x[i]


@numba.njit(cache=True)
@no_type_check
def _biased(bias: Any, y: Any, rows: int, width: int) -> None:
    for row in range(rows):
        for i in range(width):
            y[row * width + i] = y[row * width + i] + bias[i]


@numba.njit(**_LOOSE)
@no_type_check
def _attend(  # noqa: PLR0913  one address a tensor
    qkv: Any, cos: Any, sin: Any, keys: Any, values: Any, slots: Any, sees: Any, out: Any,
    work: Any, sizes: Any,
) -> None:  # fmt: skip
    """Rotate queries and keys in place, write keys and values into the memory, answer all queries.

    Sizes are rows, tokens, heads of keys, queries of each, width of a head, slots seen, pairs that
    rotate, and the strides of the memory (row, head) and of ``sees`` (row, token).
    """
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


@numba.njit(cache=True)
@no_type_check
def _product(run: int, job: int, size: int, passes: int) -> None:
    for one in range(passes):
        _called(run, job + size * one)


@no_type_check
def _block(at: int, first_eps: float, second_eps: float) -> None:
    told = _whole(at)
    tokens, width, inner = told[0] * told[1], told[11], told[12]
    x, normed, heads, attended = _real(told[13]), _real(told[14]), _real(told[15]), _real(told[16])
    middle, into, gated, y = _real(told[17]), _real(told[18]), _real(told[19]), _real(told[20])
    run, size, passes, job = told[32], told[33], told[34], at + 8 * 35
    _norm(x, _real(told[21]), normed, tokens, width, first_eps)
    _product(run, job, size, passes)
    if told[23] != 0:
        _biased(_real(told[23]), heads, tokens, (told[3] + 2) * told[2] * told[4])
    _attend(
        heads, _real(told[25]), _real(told[26]), _real(told[27]), _real(told[28]),
        _whole(told[29]), _seen(told[30]), attended, _real(told[31]), told,
    )  # fmt: skip
    _product(run, job + size * passes, size, passes)
    if told[24] != 0:
        _biased(_real(told[24]), middle, tokens, width)
    _added(x, middle, tokens * width)
    _norm(middle, _real(told[22]), normed, tokens, width, second_eps)
    _product(run, job + 2 * size * passes, size, passes)
    _gate(into, gated, tokens, inner)
    _product(run, job + 3 * size * passes, size, passes)
    _added(middle, y, tokens * width)
