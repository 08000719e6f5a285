"""How does a step use several evaluations? Exponential integrators in any basis.

With u = log s the probability-flow ODE is dy/du = y - D(y, s). A basis solves a linear part
exactly and interpolates the rest through evaluations at known levels:

    data   y(u1) = (s1/s0) y(u0) - sum_j D_j  integral_{u0}^{u1} (s1/s) L_j du
    noise  y(u1) =         y(u0) + sum_j e_j  integral_{u0}^{u1}  s     L_j du

with e = (y - D) / s: the data basis is that of DPM-Solver++ (Lu et al., 2022, arXiv:2211.01095),
the noise basis that of DPM-Solver (arXiv:2206.00927) and DEIS (Zhang and Chen, 2022,
arXiv:2204.13902). The Lagrange polynomials L_j may be in log s, in s or in any other monotone
coordinate. Integrals are Gauss-Legendre sums of 24 nodes: rounding is all that is left of them.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from unison.decode.continuous.api import Past
from unison.types import Event

Basis = Literal["data", "noise"]
Coordinate = Callable[[float], float]  # a strictly monotone function of the level

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
    return tuple(float(measure @ _lagrange(nodes, j, where)) for j in range(len(nodes)))


def _lagrange(nodes: tuple[float, ...], j: int, where: np.ndarray) -> np.ndarray:
    """Return the j-th Lagrange polynomial of the nodes."""
    value = np.ones_like(where)
    for k, node in enumerate(nodes):
        if k != j:
            value = value * (where - node) / (nodes[j] - node)
    return value


def order_at(order: int, step: int, intervals: int) -> int:
    """Return the order a multistep rule can take: there must be history, and a short rest.

    A last step of high order extrapolates into the region where the belief turns fastest; the
    order falls to 1 towards the end of every grid, long ones too.
    """
    return min(order, step + 1, intervals - step)
