# ruff: noqa: ANN001, ANN202, PLR0913, PLR0915, SIM102  # a program's annotations and branches are Triton's own
"""Which token is drawn, in one reading of the logits? The inverse CDF, tempered and truncated.

One program reads one row, tile by tile in canvas order whatever the batch: a row's token does not
depend on its batch. Every tile keeps the sum of its weights; the tile that the uniform falls into
is read again. A nucleus (Holtzman et al., 2020, arXiv:1904.09751) is found without sorting, by
bisection of the bits of its smallest logit.

Law: as ``truncation.temper``, ``truncation.top_p`` and ``categorical.sample`` one after the other:
weights are float32, sums, uniform and comparisons float64. Sums run in another order than there
and weights are not divided by their float32 sum first, so that a uniform within 1e-6 of a boundary
of the CDF may fall on its other side; the mass of a nucleus is summed in float64, where
``truncation.top_p`` sums it in float32, so a token at whose place the mass is within 1e-6 of p may
be kept by one and not by the other.
"""

from typing import no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.prob.kernels.arithmetic import exp, finite, tile
from unison.prob.kernels.rows import HOW, rowwise, width
from unison.prob.truncation import COLDEST


def draw(
    logits: Float[Tensor, "*N V"],
    u: Float[Tensor, "*N"],
    temperature: float = 1.0,
    top_p: float = 1.0,
    wanted: Bool[Tensor, "*N"] | None = None,
) -> Int[Tensor, "*N"]:
    """Return a token for each row.

    Args:
        logits: At most single precision; need not be normalised. ``-inf`` is never drawn.
        u: Uniforms on (0, 1), float64.
        temperature: What logits are divided by; 0 for the first of the likeliest.
        top_p: Mass of the nucleus, in (0, 1].
        wanted: Rows that are drawn; the others cost nothing and answer 0. ``None`` for all.
    """
    if temperature == 0:
        best = logits.argmax(-1)
        return best if wanted is None else best.where(wanted, 0)
    rows = rowwise(logits)
    count, size = rows.shape
    drawn = torch.zeros(count, dtype=torch.int64, device=logits.device)
    block = width(size)
    told = u if wanted is None else wanted
    if count:
        with torch.cuda.device_of(rows):
            _draw[(count,)](  # pyright: ignore[reportIndexIssue]
                rows,
                rows.stride(0),
                u.double().contiguous(),
                told.contiguous(),
                drawn,
                size,
                max(temperature, COLDEST),
                float(top_p),
                SOME=wanted is not None,
                NUCLEUS=top_p < 1,
                TILES=triton.next_power_of_2(triton.cdiv(size, block)),
                BLOCK=block,
                **HOW,
            )
    return drawn.view(logits.shape[:-1])


@triton.jit
@no_type_check
def _order(x):
    """Return whole numbers that are ordered as the float32 numbers are."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
@no_type_check
def _weights(x, peak, heat):
    """Return exp((x - peak) / heat), float32."""
    return exp(tl.div_rn(x - peak, heat))


@triton.jit
@no_type_check
def _peak(row, size, BLOCK: tl.constexpr):
    """Return the largest logit, 0 if all are -inf."""
    peak = tl.full((), -float("inf"), tl.float32)
    for first in range(0, size, BLOCK):
        peak = tl.maximum(peak, tl.max(tile(row, first, size, BLOCK), 0))
    return finite(peak)


@triton.jit
@no_type_check
def _split(row, size, peak, heat, least, BLOCK: tl.constexpr):
    """Return what a rank divides.

    The summed weight of the logits that rank at ``least`` or above, the lowest rank among these,
    and the highest rank below.
    """
    mass = tl.zeros((), tl.float64)
    above, below = tl.full((), 0x7FFFFFFF, tl.int32), tl.full((), -0x80000000, tl.int32)
    for first in range(0, size, BLOCK):
        x = tile(row, first, size, BLOCK)
        rank = _order(x)
        kept = rank >= least
        mass += tl.sum(tl.where(kept, _weights(x, peak, heat), 0.0).to(tl.float64), 0)
        above = tl.minimum(above, tl.min(tl.where(kept, rank, 0x7FFFFFFF), 0))
        below = tl.maximum(below, tl.max(tl.where(kept, -0x80000000, rank), 0))
    return mass, above.to(tl.int64), below.to(tl.int64)


@triton.jit
@no_type_check
def _edge(row, size, peak, heat, top_p, BLOCK: tl.constexpr):
    """Return the rank of the nucleus's smallest logit, and how many of its equals belong to it.

    Bisection; the ends always move on to ranks that occur, so empty stretches cost nothing.
    """
    total, low, _ = _split(row, size, peak, heat, -0x80000000, BLOCK)
    goal, high = top_p * total, _order(peak).to(tl.int64) + 1
    beyond = tl.zeros((), tl.float64)
    while high - low > 1:
        mass, above, below = _split(row, size, peak, heat, (low + high) >> 1, BLOCK)
        enough = mass >= goal
        low, high = tl.where(enough, above, low), tl.where(enough, high, below + 1)
        beyond = tl.where(enough, beyond, mass)
    least = low.to(tl.int32)
    level = (least ^ ((least >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    equals = tl.ceil((goal - beyond) / _weights(level, peak, heat).to(tl.float64))
    return least, tl.maximum(equals, 1.0).to(tl.int64)


@triton.jit
@no_type_check
def _kept(x, weights, least, equals, met):
    """Return the weights in the nucleus, of equals the first ones; and how many were met."""
    rank = _order(x)
    same = (rank == least).to(tl.int64)
    place = met + tl.cumsum(same, 0)
    inside = (rank > least) | ((same > 0) & (place <= equals))
    return tl.where(inside, weights, 0.0), met + tl.sum(same, 0)


@triton.jit
@no_type_check
def _draw(
    logits,
    stride,
    u,
    wanted,
    drawn,
    size,
    heat,
    top_p,
    SOME: tl.constexpr,
    NUCLEUS: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64)
    if SOME:
        if tl.load(wanted + number) == 0:
            return
    row, inside = logits + number * stride, tl.arange(0, BLOCK)
    tiles = tl.arange(0, TILES)
    peak, least = tl.full((), 0.0, tl.float32), tl.full((), 0, tl.int32)
    met, equals = tl.full((), 0, tl.int64), tl.full((), 0, tl.int64)
    if NUCLEUS:
        peak = _peak(row, size, BLOCK)
        least, equals = _edge(row, size, peak, heat, top_p, BLOCK)
    sums, before = tl.zeros((TILES,), tl.float64), tl.zeros((TILES,), tl.int64)
    peaks = tl.full((TILES,), -float("inf"), tl.float32)
    for first in range(0, size, BLOCK):
        x = tile(row, first, size, BLOCK)
        here = tiles == first // BLOCK
        highest = peak if NUCLEUS else tl.max(x, 0)
        weights = _weights(x, finite(highest), heat)
        if NUCLEUS:
            before = tl.where(here, met, before)
            weights, met = _kept(x, weights, least, equals, met)
        peaks = tl.where(here, highest, peaks)
        sums = tl.where(here, tl.sum(weights.to(tl.float64), 0), sums)
    highest = tl.max(peaks, 0)
    scales = tl.exp(((peaks - finite(highest)) / heat).to(tl.float64))
    running = tl.cumsum(sums * scales, 0)
    live = sums * scales > 0
    goal = tl.load(u + number) * tl.sum(tl.where(tiles == TILES - 1, running, 0.0), 0)
    last = tl.max(tl.where(live, tiles, 0), 0)
    which = tl.min(tl.where((running > goal) & live, tiles, last), 0)
    chosen = tiles == which
    goal -= tl.sum(tl.where(chosen, running - sums * scales, 0.0), 0)
    scale = tl.sum(tl.where(chosen, scales, 0.0), 0)
    x = tile(row, which * BLOCK, size, BLOCK)
    weights = _weights(x, finite(tl.max(tl.where(chosen, peaks, -float("inf")), 0)), heat)
    if NUCLEUS:
        met = tl.sum(tl.where(chosen, before, 0), 0)
        weights, met = _kept(x, weights, least, equals, met)
    running = tl.cumsum(weights.to(tl.float64), 0) * scale
    last = tl.max(tl.where(weights > 0, inside, 0), 0)
    place = tl.min(tl.where((running > goal) & (weights > 0), inside, last), 0)
    tl.store(drawn + number, (which * BLOCK + place).to(tl.int64))
