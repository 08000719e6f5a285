# ruff: noqa: ANN001, ANN201  # annotations of a program are Triton's own
"""How are exp and log1p computed on a GPU as exactly as torch computes them?

Triton's own exp rounds x / ln 2 once, which at x = -20 costs a relative 1e-6; log1p it has only
in a library that its interpreter lacks.
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]


@triton.jit
@no_type_check
def exp(x):
    """Return e^x, float32, for x <= 0: to 2^-22 of its value.

    What the product with 1 / ln 2 loses in rounding is found by a fused multiply-add.
    """
    x = tl.where(x < -110.0, -110.0, x)  # exp is 0 from -104 on; what is no number stays none
    high = x * 1.4426950216293335
    low = tl.fma(x, 1.4426950216293335, -high) + x * 1.9259629911266175e-08
    return tl.exp2(high) * (1.0 + 0.6931471805599453 * low)


@triton.jit
@no_type_check
def log1p(z):
    """Return log(1 + z), float32, for z >= 0: to a few units in its last place.

    Kahan's way: log u errs as z / (u - 1) does, where u is 1 + z rounded.
    """
    u = 1.0 + z
    return tl.where(u == 1.0, z, tl.log(u) * (z / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
@no_type_check
def tile(row, first, size, BLOCK: tl.constexpr):
    """Return ``BLOCK`` logits of a row from ``first`` on, float32, -inf beyond the last."""
    at = first + tl.arange(0, BLOCK)
    return tl.load(row + at, mask=at < size, other=-float("inf")).to(tl.float32)


@triton.jit
@no_type_check
def finite(peak):
    """Return a number to count from: the peak, or 0 where everything so far is -inf."""
    return tl.where(peak == -float("inf"), 0.0, peak)
