"""What if the linear part of the flow is fitted to the model? DPM-Solver-v3.

Zheng et al. (2023, arXiv:2310.13268). With lam = -log s, dy/dlam = -l y - N: the coefficient l is
chosen for each element and level so that N = (1 - l) y - D depends on y as little as possible,
and N itself is carried along by dN/dlam = s N + b, fitted to what it does on the model's own
trajectories. Only what is left over is interpolated through evaluations. With S and B the
integrals of s and of exp(-S) b from the start of a step, and L that of l,

    y(1) = exp(-L(1)) y(0) - integral exp(L - L(1) + S) (G + B) dlam,   G = exp(-S) N - B,

where G is constant for beliefs that the coefficients describe. l = 1, s = b = 0 is
DPM-Solver++, and l = 0, s = -1, b = 0 is DPM-Solver and DEIS.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from unison.decode.continuous.allowed import check_choice
from unison.decode.continuous.api import Levels, Past, State
from unison.decode.continuous.correcting import Corrector, Plan
from unison.decode.continuous.exponential import Final, lagrange
from unison.decode.continuous.gaussian_statistics import Gaussian
from unison.decode.continuous.panels import panels
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

Difference = Literal["true", "pseudo"]


class Values(NamedTuple):
    """l, s and b at points: [P, *E], or with sizes 1 that broadcast."""

    linear: Tensor
    scale: Tensor
    bias: Tensor


@runtime_checkable
class Coefficients(Protocol):
    """What l, s and b are at any level."""

    def at(self, points: Tensor, x: Event) -> Values:
        """Return the values at points of lam, [P], for events like ``x``, in its type."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same at every level and element.

    Attributes:
        linear: 1 is the data basis; 0 with a scale of -1 the noise basis.
        scale: s.
        bias: b.
    """

    linear: float = 1.0
    scale: float = 0.0
    bias: float = 0.0

    def at(self, points: Tensor, x: Event) -> Values:
        """Return three constants."""
        one = torch.ones(len(points), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return Values(one * self.linear, one * self.scale, one * self.bias)


@dataclass(frozen=True)
class OfGaussian:
    """What the statistics are for Gaussian data with uncorrelated elements, in closed form.

    l = s^2 / (c + s^2), and N = -l m is carried exactly by a scale of -2 c / (c + s^2).

    Attributes:
        statistics: Without axes; with them ``GaussianBasis`` is exact.
    """

    statistics: Gaussian

    def __post_init__(self) -> None:
        if self.statistics.axes is not None:
            raise ValueError(
                "DPM-Solver-v3 treats elements one by one; statistics with axes are for "
                "GaussianBasis, or fit them with `elementwise`."
            )

    def at(self, points: Tensor, x: Event) -> Values:
        """Return the closed forms."""
        spread = self.statistics.variances.to(x)
        spread = spread.view(*[1] * (x.ndim - 1 - spread.ndim), *spread.shape)
        squares = (-2 * points).exp().to(x).view(-1, *[1] * (x.ndim - 1))
        kept = spread / (spread + squares)
        return Values(1 - kept, -2 * kept, torch.zeros_like(kept))


@dataclass(frozen=True)
class DPMSolverV3:
    """The multistep rule for any coefficients; those of a model come from ``statistics``.

    With ``final="full"`` the global order is ``order``, at most 2, and one more with a corrector.

    Attributes:
        coefficients: l, s and b.
        order: 1 to 4: evaluations that a prediction interpolates.
        corrector: ``none``, ``reused`` or ``fresh``, see ``Plan``.
        differences: ``true`` interpolates; ``pseudo`` takes the k-th divided difference for the
            k-th coefficient of a Taylor series at the step's start, which bends less and serves
            very few steps or strong guidance.
        final: ``lower`` lets the order fall to 1 at the end.
    """

    law: ClassVar[Law] = Law.GREEDY
    coefficients: Coefficients = Constant()
    order: int = 2
    corrector: Corrector = "reused"
    differences: Difference = "true"
    final: Final = "lower"

    def __post_init__(self) -> None:
        self._plan().check(4)
        check_choice("differences", self.differences, ("true", "pseudo"))

    def evaluations(self, intervals: int) -> int:
        """One an interval; of a fresh corrector two, but for the last."""
        return self._plan().evaluations(intervals)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, correct where the last step was predicted only, and predict."""
        return self._plan().step(self.over, levels, denoise, state, key.step)

    def over(self, x: Event, ends: tuple[float, float], past: Sequence[Past]) -> Event:
        """Return the events at the second level, through evaluations, the start's first."""
        start, end = (-math.log(level) for level in ends)
        area = panels(start, end)
        values = self.coefficients.at(area.points, x)
        total = area.integral(values.linear)
        scale = area.integrals(values.scale)
        kernel = (area.integrals(values.linear) - total + scale).exp()
        bias = area.integrals((-scale).exp() * values.bias)
        moved = (-total).exp() * x - area.integral(kernel * bias)
        nodes = tuple(-math.log(one.level) for one in past)
        shares = _TERMS[self.differences](nodes, area.points.numpy())
        for one, share in zip(past, shares, strict=True):
            weight = area.integral(kernel * _along(torch.from_numpy(share), kernel))
            moved = moved - weight * self._left(one, start)
        return moved

    def _left(self, one: Past, start: float) -> Event:
        """Return G of an evaluation, from the start of the step."""
        there = -math.log(one.level)
        linear = self.coefficients.at(torch.tensor([there], dtype=torch.float64), one.x).linear[0]
        rest = (1 - linear) * one.x - one.mean
        if there == start:
            return rest
        area = panels(start, there)
        values = self.coefficients.at(area.points, one.x)
        bias = area.integral((-area.integrals(values.scale)).exp() * values.bias)
        return (-area.integral(values.scale)).exp() * rest - bias

    def _plan(self) -> Plan:
        return Plan(self.order, self.corrector, self.final)


def _along(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *[1] * (like.ndim - 1))


def _true(nodes: tuple[float, ...], where: np.ndarray) -> list[np.ndarray]:
    return [lagrange(nodes, j, where) for j in range(len(nodes))]


def _pseudo(nodes: tuple[float, ...], where: np.ndarray) -> list[np.ndarray]:
    """Return what multiplies each value in the sum of f[0..k] (where - first node)^k."""
    shares = []
    for j, node in enumerate(nodes):
        share = np.zeros_like(where)
        for k in range(j, len(nodes)):
            gaps = [node - other for m, other in enumerate(nodes[: k + 1]) if m != j]
            share = share + (where - nodes[0]) ** k / math.prod(gaps)
        shares.append(share)
    return shares


_TERMS = {"true": _true, "pseudo": _pseudo}
