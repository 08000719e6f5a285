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
from collections.abc import Callable
from typing import Any, no_type_check

import numba  # pyright: ignore[reportMissingImports]
import numpy as np
from numba import (  # pyright: ignore[reportMissingImports]
    carray,  # pyright: ignore[reportPrivateImportUsage]
    types,
)

from unison.engine.quantised.native import LEAST, LOOSE, called, exp, real, seen, whole

_LANES = 16  # so many side by side, none left over: vectors and single numbers round apart
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
    function = numba.cfunc(types.void(*kinds), **LOOSE)(_block)
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_float, ctypes.c_float)
    bound: Any = call(function.address)  # pyright: ignore[reportCallIssue, reportArgumentType]
    bound.keeps = function  # the code lives as long as its function
    return bound


@numba.njit(**LOOSE)
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


@numba.njit(**LOOSE)
@no_type_check
def _gate(x: Any, y: Any, rows: int, width: int) -> None:
    """Write silu(first half) times second half of each row of x."""
    for row in range(rows):
        into, first = row * width, row * 2 * width
        for i in range(width):
            v = x[first + i]
            small = -v if -v < -LEAST else -LEAST
            y[into + i] = v / (np.float32(1) + exp(small)) * x[first + width + i]


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


@numba.njit(**LOOSE)
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


@numba.njit(**LOOSE)
@no_type_check
def _rotate(heads: Any, cos: Any, sin: Any) -> None:
    pairs = cos.shape[0]
    for head in range(heads.shape[0]):
        for i in range(pairs):
            first, second = heads[head, i], heads[head, pairs + i]
            heads[head, i] = first * cos[i] - second * sin[i]
            heads[head, pairs + i] = second * cos[i] + first * sin[i]


@numba.njit(**LOOSE)
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


@numba.njit(**LOOSE)
@no_type_check
def _normalise(work: Any) -> None:
    """Turn products into shares that sum to 1, or 0 where nothing is seen."""
    top = _LOWEST
    for n in range(len(work)):
        top = work[n] if work[n] > top else top
    for n in range(len(work)):
        share = exp(work[n] - top)
        work[n] = share if work[n] > -np.float32(np.inf) else np.float32(0)
    total = _sum(work)
    factor = np.float32(1) / total if total > 0 else np.float32(0)
    for n in range(len(work)):
        work[n] *= factor


@numba.njit(**LOOSE)
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
        called(run, job + size * one)


@no_type_check
def _block(at: int, first_eps: float, second_eps: float) -> None:
    told = whole(at)
    tokens, width, inner = told[0] * told[1], told[11], told[12]
    x, normed, heads, attended = real(told[13]), real(told[14]), real(told[15]), real(told[16])
    middle, into, gated, y = real(told[17]), real(told[18]), real(told[19]), real(told[20])
    run, size, passes, job = told[32], told[33], told[34], at + 8 * 35
    _norm(x, real(told[21]), normed, tokens, width, first_eps)
    _product(run, job, size, passes)
    if told[23] != 0:
        _biased(real(told[23]), heads, tokens, (told[3] + 2) * told[2] * told[4])
    _attend(
        heads, real(told[25]), real(told[26]), real(told[27]), real(told[28]),
        whole(told[29]), seen(told[30]), attended, real(told[31]), told,
    )  # fmt: skip
    _product(run, job + size * passes, size, passes)
    if told[24] != 0:
        _biased(real(told[24]), middle, tokens, width)
    _added(x, middle, tokens * width)
    _norm(middle, real(told[22]), normed, tokens, width, second_eps)
    _product(run, job + 2 * size * passes, size, passes)
    _gate(into, gated, tokens, inner)
    _product(run, job + 3 * size * passes, size, passes)
    _added(middle, y, tokens * width)
