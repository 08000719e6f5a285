# ruff: noqa: ANN001, ANN202  # a program's annotations are Triton's own
"""How undecided is a belief, in one reading? Entropy, and the two likeliest tokens.

Law: terms are float32 and sums float64, as where ``decode/doubt.py`` asks torch; a row's answer
does not depend on the others.
"""

from typing import NamedTuple, no_type_check

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Float
from torch import Tensor

from unison.prob.kernels.arithmetic import exp, finite, tile
from unison.prob.kernels.rows import HOW, rowwise, width


class Doubt(NamedTuple):
    """What is said of each row, float64.

    Attributes:
        entropy: Nats.
        best: The largest logit.
        next: The largest of the others.
    """

    entropy: Float[Tensor, "*N"]
    best: Float[Tensor, "*N"]
    next: Float[Tensor, "*N"]


def doubt(logits: Float[Tensor, "*N V"]) -> Doubt:
    """Return the doubt of every row; logits need not be normalised, in at most single precision."""
    rows = rowwise(logits)
    count, size = rows.shape
    out = torch.empty(3, count, dtype=torch.float64, device=logits.device)
    if count:
        with torch.cuda.device_of(rows):
            _doubt[(count,)](  # pyright: ignore[reportIndexIssue]
                rows, rows.stride(0), out, size, BLOCK=width(size), **HOW
            )
    return Doubt(*(part.view(logits.shape[:-1]) for part in out.unbind(0)))


@triton.jit
@no_type_check
def _doubt(logits, stride, out, size, BLOCK: tl.constexpr):
    number, count = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    row, inside = logits + number * stride, tl.arange(0, BLOCK)
    lowest = -float("inf")
    peak, second = tl.full((), lowest, tl.float32), tl.full((), lowest, tl.float32)
    total, tilted = tl.zeros((), tl.float64), tl.zeros((), tl.float64)
    for first in range(0, size, BLOCK):
        x = tile(row, first, size, BLOCK)
        high = tl.max(x, 0)
        where = tl.min(tl.where(x == high, inside, BLOCK), 0)
        other = tl.max(tl.where(inside == where, lowest, x), 0)
        second = tl.maximum(tl.maximum(second, other), tl.minimum(peak, high))
        higher = tl.maximum(peak, high)
        base = finite(higher)
        fall = (finite(peak) - base).to(tl.float64)
        shrink = tl.where(total > 0, tl.exp(fall), 0.0)
        weights = exp(x - base)
        depth = weights * tl.where(weights > 0, x - base, 0.0)
        tilted = shrink * (tilted + fall * total) + tl.sum(depth.to(tl.float64), 0)
        total = shrink * total + tl.sum(weights.to(tl.float64), 0)
        peak = higher
    tl.store(out + number, tl.log(total) - tilted / total)
    tl.store(out + count + number, peak.to(tl.float64))
    tl.store(out + 2 * count + number, second.to(tl.float64))
