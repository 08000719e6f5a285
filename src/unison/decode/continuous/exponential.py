"""How does a step use several evaluations? Exponential integrators in any basis.

With u = log s the probability-flow ODE is dy/du = y - D(y, s). A basis solves a linear part
exactly and interpolates the rest through evaluations at known levels:

    data   y(u1) = (s1/s0) y(u0) - sum_j D_j  integral_{u0}^{u1} (s1/s) L_j du
    noise  y(u1) =         y(u0) + sum_j e_j  integral_{u0}^{u1}  s     L_j du

with e = (y - D) / s: the data basis is that of DPM-Solver++ (Lu et al., 2022, arXiv:2211.01095),
the noise basis that of DPM-Solver (arXiv:2206.00927) and DEIS (Zhang and Chen, 2022,
arXiv:2204.13902). The Lagrange polynomials L_j may be in log s, in s or in any other monotone
coordinate. Integrals are Gauss-Legendre sums of 24 nodes: rounding is all that is left of them.

Two families read these weights: multistep rules (``stepped``) interpolate evaluations of earlier
steps, single steps (``staged``) make further ones inside their interval.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from unison.decode.continuous.api import Levels, Past, State, asked
from unison.types import Event, EventDenoiser

Basis = Literal["data", "noise"]
Coordinate = Callable[[float], float]  # a strictly monotone function of the level
Final = Literal["lower", "full"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def advanced(
    x: Event,
    ends: tuple[float, float],
    past: Sequence[Past],
    basis: Basis = "data",
    coordinate: Coordinate = math.log,
) -> Event:
    """Return the events at the second level from those at the first.

    Args:
        x: The events at ``ends[0]``.
        ends: The level they are at and the one they go to, both above 0.
        past: The evaluations that are interpolated, at distinct levels; their number is the
            order. A corrector's may lie at the level it goes to.
        basis: What is interpolated.
        coordinate: In what.
    """
    weights = weights_of(ends, tuple(one.level for one in past), basis, coordinate)
    return combined(x, ends, past, weights, basis)


def combined(
    x: Event,
    ends: tuple[float, float],
    past: Sequence[Past],
    weights: Sequence[float],
    basis: Basis,
) -> Event:
    """Return the events at the second level, given the weight of each evaluation."""
    if basis == "data":
        return weighted((ends[1] / ends[0], *weights), (x, *(one.mean for one in past)))
    return weighted((1.0, *weights), (x, *(one.noise for one in past)))


def weighted(weights: Sequence[float], parts: Sequence[Event]) -> Event:
    """Return a weighted sum of events."""
    total = weights[0] * parts[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = total.add(part, alpha=weight)
    return total


@lru_cache(maxsize=4096)
def weights_of(
    ends: tuple[float, float],
    levels: tuple[float, ...],
    basis: Basis,
    coordinate: Coordinate = math.log,
) -> tuple[float, ...]:
    """Return the weight of each evaluation in a step, from their levels.

    Raises:
        ValueError: Two evaluations stand at one level.
    """
    start, end = math.log(ends[0]), math.log(ends[1])
    kernel = _KERNELS[basis]
    return integrals(
        (start, end),
        tuple(coordinate(level) for level in levels),
        lambda u: kernel(u, end),
        lambda u: np.array([coordinate(math.exp(one)) for one in u]),
    )


def halved_weights(
    ends: tuple[float, float],
    levels: tuple[float, float],
    basis: Basis,
    total: float | None = None,
) -> tuple[float, float]:
    """Return the weights of two evaluations if the slope between them acts from mid-step.

    "Midpoint" of DPM-Solver and UniPC: the slope's weight is half of the constant's where the
    exact integral of the line has a little less; both are of order 2.

    Args:
        ends: The level they are at and the one they go to.
        levels: The evaluation at ``ends[0]``, and another one.
        basis: What is interpolated.
        total: What the half is taken of; ``None`` for the constant's weight.
    """
    whole = weights_of(ends, levels[:1], basis)[0]
    place = math.log(levels[1] / ends[0]) / math.log(ends[1] / ends[0])
    slope = (whole if total is None else total) / 2 / place
    return whole - slope, slope


def moments(ends: tuple[float, float], basis: Basis, count: int) -> tuple[float, ...]:
    """Return the integrals of the kernel times x^k for k below ``count``; x is 0 to 1 in log s."""
    start, end = math.log(ends[0]), math.log(ends[1])
    x = (1 + _NODES) / 2
    measure = (end - start) / 2 * _WEIGHTS * _KERNELS[basis](start + (end - start) * x, end)
    return tuple(float(measure @ x**k) for k in range(count))


_KERNELS: dict[Basis, Callable[[np.ndarray, float], np.ndarray]] = {
    "data": lambda u, end: -np.exp(end - u),
    "noise": lambda u, end: np.exp(u),
}


def integrals(
    ends: tuple[float, float],
    nodes: tuple[float, ...],
    kernel: Callable[[np.ndarray], np.ndarray],
    coordinate: Callable[[np.ndarray], np.ndarray],
) -> tuple[float, ...]:
    """Return the integral over u of kernel(u) L_j(coordinate(u)) for each node.

    Args:
        ends: From where to where, in u.
        nodes: Coordinates of the evaluations.
        kernel: What the polynomials are weighed with.
        coordinate: In what they are polynomials.

    Raises:
        ValueError: Two nodes are equal.
    """
    if len(set(nodes)) < len(nodes):
        raise ValueError(f"evaluations must stand at distinct levels, got nodes {nodes}.")
    half = (ends[1] - ends[0]) / 2
    u = ends[0] + half * (1 + _NODES)
    measure, where = half * _WEIGHTS * kernel(u), coordinate(u)
    return tuple(float(measure @ lagrange(nodes, j, where)) for j in range(len(nodes)))


def lagrange(nodes: tuple[float, ...], j: int, where: np.ndarray) -> np.ndarray:
    """Return the j-th Lagrange polynomial of the nodes."""
    value = np.ones_like(where)
    for k, node in enumerate(nodes):
        if k != j:
            value = value * (where - node) / (nodes[j] - node)
    return value


def order_at(order: int, step: int, intervals: int, final: Final = "lower") -> int:
    """Return the order a multistep rule can take: there must be history, and a short rest.

    A last step of high order extrapolates into the region where the belief turns fastest; the
    order falls to 1 towards the end of every grid, long ones too. ``final="full"`` lets it stay.
    """
    there = min(order, step + 1)
    return min(there, intervals - step) if final == "lower" else there


class Rule(NamedTuple):
    """A multistep rule.

    Attributes:
        order: Evaluations it interpolates once there are as many.
        basis: What is interpolated.
        coordinate: In what.
        final: Whether the order falls to 1 at the end.
        warm: Whether the first intervals are crossed by single steps of one order less, which
            cost more evaluations. Otherwise their order rises from 1, and that first step alone
            limits the global order to 2.
    """

    order: int
    basis: Basis
    coordinate: Coordinate
    final: Final
    warm: bool


def stages_at(rule: Rule, step: int, intervals: int) -> int:
    """Return the evaluations of a step: more than 1 while a warm start goes on."""
    least = min(rule.order, intervals - step) if rule.final == "lower" else rule.order
    return least - 1 if rule.warm and step + 1 < least - 1 else 1


def stepped(rule: Rule, levels: Levels, denoise: EventDenoiser, state: State, step: int) -> State:
    """Evaluate, and move by a multistep rule."""
    ends, intervals = levels[step : step + 2], len(levels) - 1
    here = asked(denoise, state.x, ends[0])
    stages = stages_at(rule, step, intervals)
    past = (here, *state.history)
    if stages > 1:
        x = staged(denoise, here, ends[1], stages, rule.basis, rule.coordinate)
    else:
        order = order_at(rule.order, step, intervals, rule.final)
        x = advanced(state.x, (ends[0], ends[1]), past[:order], rule.basis, rule.coordinate)
    return State(x, past[: rule.order - 1])


def staged(
    denoise: EventDenoiser,
    here: Past,
    to: float,
    stages: int,
    basis: Basis,
    coordinate: Coordinate = math.log,
) -> Event:
    """Return the events at a level by a single step of order 1, 2 or 3.

    Its further evaluations stand at 1/2, or at 1/3 and 2/3 of the interval in log s: the line
    through 0 and 2/3 has an error of order 3 (Radau), as in DPM-Solver-3.

    Args:
        denoise: The model.
        here: The evaluation at the start.
        to: The level to go to.
        stages: Evaluations, ``here`` among them; the order.
        basis: What is interpolated.
        coordinate: In what.
    """
    read = [here]
    for stage in range(1, stages):
        level = here.level * (to / here.level) ** (stage / stages)
        x = advanced(here.x, (here.level, level), read, basis, coordinate)
        read = [here, asked(denoise, x, level)]
    return advanced(here.x, (here.level, to), read, basis, coordinate)
