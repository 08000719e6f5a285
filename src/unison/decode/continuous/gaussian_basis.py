"""What if the part of the flow that a Gaussian explains is solved exactly?

With the mean m and the covariance C of the data, D = m + C (C + s^2)^{-1} (y - m) + r: the ODE
dy/du = y - D is linear but for the residual r, and along an axis of variance c

    y(u1) - m = g(u0) (y(u0) - m) - integral_{u0}^{u1} g(u) r du
    g(u) = sqrt((c + s1^2) / (c + s^2)).

Gaussian data are solved exactly on any grid, and far above the spread of any data r vanishes. The
idea of choosing the linear part from statistics of the data is that of DPM-Solver-v3 (Zheng et al.,
2023, arXiv:2310.13268); here they are the two first moments, and the integrals are exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from unison.decode.continuous.api import Levels, Past, State
from unison.decode.continuous.coordinates import Axis, LogLevel
from unison.decode.continuous.correcting import Corrector, Plan
from unison.decode.continuous.exponential import Final, lagrange
from unison.decode.continuous.gaussian_statistics import Gaussian, standard
from unison.decode.continuous.panels import Panels, panels
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law


@dataclass(frozen=True)
class GaussianBasis:
    """A multistep rule on what the belief differs from that of a Gaussian.

    With ``final="full"`` the global order is ``order``, at most 2, and one more with a corrector:
    the first step sets that limit. Not for guided beliefs unless the statistics are those of
    guided samples.

    Attributes:
        statistics: Mean and covariance of the data.
        order: 1 to 4: evaluations that a prediction interpolates.
        corrector: ``none``, ``reused`` (PEC) or ``fresh`` (PECE), see ``Plan``.
        coordinate: In what the residual is a polynomial.
        final: ``lower`` lets the order fall to 1 at the end.
    """

    law: ClassVar[Law] = Law.GREEDY
    statistics: Gaussian = field(default_factory=standard)
    order: int = 2
    corrector: Corrector = "none"
    coordinate: Axis = field(default_factory=LogLevel)
    final: Final = "lower"

    def __post_init__(self) -> None:
        self._plan().check(4)

    def evaluations(self, intervals: int) -> int:
        """One an interval; of a fresh corrector two, but for the last."""
        return self._plan().evaluations(intervals)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, correct where the last step was predicted only, and predict."""
        return self._plan().step(self.over, levels, denoise, state, key.step)

    def over(self, x: Event, ends: tuple[float, float], past: Sequence[Past]) -> Event:
        """Return the events at the second level, through these evaluations."""
        about = self.statistics
        low = ends[1] ** 2
        moved = about.times(lambda c: ((c + low) / (c + ends[0] ** 2)).sqrt(), about.away(x))
        area = panels(math.log(ends[0]), math.log(ends[1]))
        where = np.array([self.coordinate(math.exp(u)) for u in area.points.tolist()])
        nodes = tuple(self.coordinate(one.level) for one in past)
        for j, one in enumerate(past):
            share = torch.from_numpy(lagrange(nodes, j, where)) * area.weights
            residual = one.mean - about.denoised(one.x, one.level)
            moved = moved - about.times(partial(_weight, area, share, low), residual)
        return about.mean.to(x) + moved

    def _plan(self) -> Plan:
        return Plan(self.order, self.corrector, self.final)


def _weight(area: Panels, share: Tensor, low: float, variances: Tensor) -> Tensor:
    """Return the integral of g times a polynomial for each variance."""
    squares = (2 * area.points).exp().to(variances).view(-1, *[1] * variances.ndim)
    decay = ((variances + low) / (variances + squares)).sqrt()
    return torch.tensordot(share.to(variances), decay, 1)
