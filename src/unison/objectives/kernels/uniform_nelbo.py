# ruff: noqa: ANN001, ANN202  # annotations of a program are Triton's own
"""How are the sums over the vocabulary of the uniform-state NELBO taken in one program?

One program reads one row, in tiles: once for the normaliser, and once more, mostly from the cache,
for the sums of log xbar and of its derivative. The gradient then needs a single pass. What is one
number per row stays in ``objectives/uniform_nelbo.py``, for both ways.

Law: terms are float32 and sums float64, as in the torch path; a row's sums do not depend on the
others. Probabilities are exp(x - peak) / total, where the torch path's backward rounds log total
to float32 first.
"""

from typing import NamedTuple, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Float, Int
from torch import Tensor

from unison.prob.kernels.arithmetic import exp, finite, log1p, tile
from unison.prob.kernels.rows import HOW, rowwise, width

Rows = Float[Tensor, " N"]


class Sums(NamedTuple):
    """What the forward passes yield, float64.

    Attributes:
        log_total: log sum_j exp(logit_j).
        log_xbar: sum_j log(1 + ratio p_j).
        pull: sum_j p_j / (1 + ratio p_j).
    """

    log_total: Rows
    log_xbar: Rows
    pull: Rows


class Slope(NamedTuple):
    """What the gradient of a row is made of, beside the row's logits.

    Attributes:
        log_total: Of the forward pass.
        ratio: K a / (1 - a).
        spread: What a pull weighs.
        at_noisy: What the logit of the noisy token gets.
        at_clean: What the logit of the clean token gets.
        outer: What all is multiplied by.
        inner: What every logit loses, in shares of its probability.
    """

    log_total: Rows
    ratio: Rows
    spread: Rows
    at_noisy: Rows
    at_clean: Rows
    outer: Rows
    inner: Rows


def sums(logits: Float[Tensor, "N K"], ratio: Rows) -> Sums:
    """Return the sums of every row.

    Args:
        logits: At most single precision.
        ratio: K a / (1 - a), float64.
    """
    logits = rowwise(logits)
    rows, size = logits.shape
    out = torch.empty(3, rows, dtype=torch.float64, device=logits.device)
    if rows:
        with torch.cuda.device_of(logits):
            _sums[(rows,)](  # pyright: ignore[reportIndexIssue]
                logits,
                logits.stride(0),
                ratio.contiguous(),
                out,
                size,
                BLOCK=width(size),
                **HOW,
            )
    return Sums(*out.unbind(0))


def gradient(
    logits: Float[Tensor, "N K"], noisy: Int[Tensor, " N"], clean: Int[Tensor, " N"], slope: Slope
) -> Float[Tensor, "N K"]:
    """Return the gradient of the logits, rounded once to their precision."""
    logits = rowwise(logits)
    rows, size = logits.shape
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
    numbers = torch.stack(slope, dim=-1)
    ids = torch.stack([noisy, clean], dim=-1)
    if rows:
        block = width(size)
        grid = (rows, triton.cdiv(size, block))
        with torch.cuda.device_of(logits):
            _gradient[grid](  # pyright: ignore[reportIndexIssue]
                logits, logits.stride(0), numbers, ids, grad, size, BLOCK=block, **HOW
            )
    return grad


@triton.jit
@no_type_check
def _sums(logits, stride, ratio, out, size, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64)
    row, rows = logits + number * stride, tl.num_programs(0)
    peak, total = -float("inf"), tl.zeros((), tl.float64)
    for first in range(0, size, BLOCK):
        x = tile(row, first, size, BLOCK)
        higher = tl.maximum(peak, tl.max(x, 0))
        base = finite(higher)
        weights = exp(x - base).to(tl.float64)
        total = total * tl.exp((peak - base).to(tl.float64)) + tl.sum(weights, 0)
        peak = higher
    base, steep = finite(peak), tl.load(ratio + number)
    share, odds = (1.0 / total).to(tl.float32), (steep / total).to(tl.float32)
    log_xbar, pull = tl.zeros((), tl.float64), tl.zeros((), tl.float64)
    for first in range(0, size, BLOCK):
        weights = exp(tile(row, first, size, BLOCK) - base)
        z = weights * odds
        log_xbar += tl.sum(log1p(z).to(tl.float64), 0)
        pull += tl.sum((weights * share / (1.0 + z)).to(tl.float64), 0)
    tl.store(out + number, base.to(tl.float64) + tl.log(total))
    tl.store(out + rows + number, log_xbar)
    tl.store(out + 2 * rows + number, pull)


@triton.jit
@no_type_check
def _gradient(logits, stride, numbers, ids, grad, size, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    at = first + tl.arange(0, BLOCK)
    here = numbers + number * 7
    log_total = tl.load(here)
    high = log_total.to(tl.float32)
    low = (log_total - high.to(tl.float64)).to(tl.float32)
    ratio, spread = tl.load(here + 1).to(tl.float32), tl.load(here + 2).to(tl.float32)
    at_noisy, at_clean = tl.load(here + 3).to(tl.float32), tl.load(here + 4).to(tl.float32)
    outer, inner = tl.load(here + 5).to(tl.float32), tl.load(here + 6).to(tl.float32)
    noisy, clean = tl.load(ids + number * 2), tl.load(ids + number * 2 + 1)
    p = exp((tile(logits + number * stride, first, size, BLOCK) - high) - low)
    slope = spread * p / (1.0 + ratio * p) - inner * p
    slope += tl.where(at == noisy, at_noisy, 0.0)
    slope += tl.where(at == clean, at_clean, 0.0)
    out = (outer * slope).to(grad.dtype.element_ty)
    tl.store(grad + number * size + at, out, mask=at < size)
