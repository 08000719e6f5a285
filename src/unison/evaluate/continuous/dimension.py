"""How many dimensions do the data have near an event? What a denoiser knows of their manifold.

At small s the mean D(y, s) projects on the manifold that the data lie on, so that dD/dy has as
many eigenvalues near 1 as the manifold has dimensions; Cov(x_0 | y) = s^2 dD/dy is the same
statement. Three readings of it follow, cheapest first. All are of scale s: what is thinner than s
counts as flat, what is closer than s as one.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.evaluate.continuous.products import (
    answer,
    averaged,
    check_probes,
    check_rising,
    noised,
    traces,
)
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser

LARGEST = 512  # numbers of an event whose whole Jacobian is built

_UNIT = "dimensions"


def trace_dimension(
    denoise: EventDenoiser, clean: Event, level: float, key: Key, probes: int = 0
) -> Float[Tensor, " B"]:
    """Return tr dD/dy of each row at y = x_0 + s noise: the variance that s leaves, over s^2.

    Args:
        denoise: The model, differentiable.
        clean: Events of the data.
        level: s, small beside the manifold's own scale, large beside the model's errors.
        key: One random stream per row.
        probes: Random directions; 0 builds the Jacobian.

    Raises:
        ValueError: The model is not differentiable, or probes are below 0.
    """
    check_probes(probes)
    with answer(denoise, noised(clean, level, key), level) as found:
        return traces(found, key, probes).mean(0)


def flipd(
    denoise: EventDenoiser, clean: Event, level: float, key: Key, probes: int = 0
) -> Float[Tensor, " B"]:
    """Return N + d log p_s(x_0) / d log s of each row (Kamkari et al., 2024, arXiv:2406.03537).

    By the heat equation it is tr dD/dy + |D - y|^2 / s^2 at y = x_0 itself. Arguments as those of
    ``trace_dimension``.
    """
    check_probes(probes)
    with answer(denoise, clean, level) as found:
        away = ((found.given - found.asked) / level).square().flatten(1).sum(1)
        return traces(found, key, probes).mean(0) + away.detach()


def stretches(
    denoise: EventDenoiser, clean: Event, levels: Sequence[float]
) -> Float[Tensor, "B N"]:
    """Return the singular values of the flow from the last level down to the first, falling.

    Horvat and Pfister (2024, arXiv:2402.03845). The probability-flow ODE dy/du = y - D, u = log s,
    and Y = d y(u) / d x_0, dY/du = (1 - J) Y, are followed upwards from the events with RK4, one
    step between two levels. Along a manifold that is wide beside s the way down keeps lengths;
    across it they shrink by the quotient of the levels.

    Args:
        denoise: The model, differentiable.
        clean: Events that are taken for points at the first level.
        levels: Rising, the first above 0.

    Raises:
        ValueError: The events are too large, or the levels do not rise from above 0.
    """
    check_rising(levels)
    size = clean[0].numel()
    if size > LARGEST:
        raise ValueError(
            f"an event holds {size} numbers and a whole Jacobian is built up to {LARGEST}; use "
            "trace_dimension or flipd."
        )
    y = clean.double()
    moved = torch.eye(size, dtype=y.dtype, device=y.device).expand(len(y), size, size)
    heights = [math.log(level) for level in levels]
    for low, high in pairwise(heights):
        y, moved = _risen(denoise, y, moved, (low, high))
    return 1 / torch.linalg.svdvals(moved).flip(1)


def counted(values: Float[Tensor, "B N"], low: float, high: float) -> Int[Tensor, " B"]:
    """Return how many directions kept their length rather than shrank by low / high.

    The line between the two is their geometric mean.
    """
    return (values > (low / high) ** 0.5).sum(1)


def dimensions(values: Tensor) -> Estimate:
    """Return the mean of any of these over rows."""
    return averaged(values, _UNIT)


def _risen(
    denoise: EventDenoiser, y: Event, moved: Tensor, ends: tuple[float, float]
) -> tuple[Event, Tensor]:
    """Go one RK4 step up in log s with the events and their derivatives."""
    low, high = ends
    width, points, turns = high - low, [], []
    for share in (0.0, 0.5, 0.5, 1.0):
        shown = y if not points else y + share * width * points[-1]
        turned = moved if not turns else moved + share * width * turns[-1]
        slope, bent = _slopes(denoise, shown, turned, low + share * width)
        points.append(slope)
        turns.append(bent)
    weights = [width * part / 6 for part in (1, 2, 2, 1)]
    for weight, slope, bent in zip(weights, points, turns, strict=True):
        y, moved = y + weight * slope, moved + weight * bent
    return y, moved


def _slopes(denoise: EventDenoiser, y: Event, moved: Tensor, height: float) -> tuple[Event, Tensor]:
    level = math.exp(height)
    with answer(denoise, y, level) as found:
        return (found.asked - found.given).detach(), moved - found.jacobian() @ moved
