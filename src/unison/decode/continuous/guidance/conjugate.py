"""Which x solves A x = b, row by row, when only A's action is known? Conjugate gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from unison.decode.continuous.guidance.parts import inner


def solved(
    apply: Callable[[Tensor], Tensor], right: Tensor, iterations: int, tolerance: float = 1e-12
) -> Tensor:
    """Return an approximate solution for each row (Hestenes and Stiefel, 1952).

    Rows never mix: one that has converged, or meets a direction without curvature, rests where
    it is. No iteration waits for a device.

    Args:
        apply: A symmetric positive definite matrix's action on every row.
        right: Right-hand sides, rows first.
        iterations: Most that are taken; as many as there are distinct eigenvalues are exact.
        tolerance: Relative residual at which a row rests.
    """
    found = torch.zeros_like(right)
    left, way = right, right
    size = inner(left, left)
    stop = size * tolerance**2
    for _ in range(iterations):
        moved = apply(way)
        curvature = inner(way, moved)
        going = (size > stop) & (curvature > 0)
        length = (size / curvature.where(going, 1.0)).where(going, 0.0)
        found = found + length * way
        left = left - length * moved
        fresh = inner(left, left)
        way = left + (fresh / size.where(going, 1.0)).where(going, 0.0) * way
        size = fresh.where(going, size)
    return found
