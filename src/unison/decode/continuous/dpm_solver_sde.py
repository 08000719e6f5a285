"""SDE-DPM-Solver++ (Lu et al., 2022, arXiv:2211.01095, section 5), with any amount of noise.

For the mean interpolated through the last evaluations the reverse SDE is solved exactly:

    y' = (s'/s)^(1+eta) y + (1+eta) integral (s'/s_u)^(1+eta) D d(-u) + n
    n ~ N(0, s'^2 (1 - (s'/s)^(2 eta))),   u = log s

The noise is that of a Brownian path W on the clock s^(-2 eta): n = s'^(1+eta) (W(s') - W(s)).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from unison.decode.continuous.allowed import check_choice, check_order, check_range
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.exponential import order_at, weighted
from unison.decode.continuous.noise import noise_like, path_like
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

SITE_SDE, SITE_PATH = 0x7FFFFF50, 0x7FFFFF51


@dataclass(frozen=True)
class DPMSolverSDE:
    """Multistep, with fresh noise.

    At order 1 and eta 1 a step is that of ``Ancestral``: the posterior of the forward process
    given the answer. The variance of Gaussian data is met with an error of the solver's order.

    Attributes:
        order: 1 or 2.
        form: At order 2, whether the slope acts from mid-step or is integrated (``heun``).
        eta: How much noise: 0 is DPM-Solver++, 1 the reverse of the forward process.
        path: Take the noise from one path for each row, the same on every grid, so that more
            steps refine the same event; costs tens of draws a step instead of one.
    """

    order: int = 2
    form: Literal["midpoint", "heun"] = "midpoint"
    eta: float = 1.0
    path: bool = False

    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        check_order(self.order, 2)
        check_choice("form", self.form, ("midpoint", "heun"))
        check_range("eta", self.eta, 0.0, math.inf)

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, take a difference, move, add noise."""
        level, to = levels[key.step : key.step + 2]
        past = (asked(denoise, state.x, level), *state.history)
        width = math.log(level / to)
        kept, whole = math.exp(-(1 + self.eta) * width), -math.expm1(-(1 + self.eta) * width)
        weights = (whole,)
        order = order_at(self.order, key.step, len(levels) - 1)
        if order == 2:
            near = math.log(past[1].level / level) / width
            share = 1 - whole / ((1 + self.eta) * width) if self.form == "heun" else whole / 2
            weights = (whole + share / near, -share / near)
        noise = self._noise(state.x, level, to, key)
        means = (one.mean for one in past[:order])
        x = weighted((kept, 1.0, *weights), (state.x, noise, *means))
        return State(x, past[: self.order - 1])

    def _noise(self, x: Event, level: float, to: float, key: Key) -> Event:
        deviation = to * math.sqrt(-math.expm1(2 * self.eta * math.log(to / level)))
        if not self.path or not deviation:
            return deviation * noise_like(x, key, SITE_SDE)
        clock = (level ** (-2 * self.eta), to ** (-2 * self.eta))
        return to ** (1 + self.eta) * path_like(x, key, SITE_PATH, clock)
