"""SA-Solver (Xue et al., 2023, arXiv:2309.05019): stochastic Adams, predicted and corrected.

Over a step with tau held at one value, and the clean mean interpolated by a polynomial,

    y' = (s'/s)^(1+tau^2) y + sum_j D_j w_j + s' sqrt(1 - (s'/s)^(2 tau^2)) n
    w_j = (1+tau^2) integral (s'/s_u)^(1+tau^2) L_j d(-u),   u = log s.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from unison.decode.continuous.allowed import check_order, check_range
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.exponential import integrals, order_at, weighted
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

SITE_ADAMS = 0x7FFFFF53


@dataclass(frozen=True)
class SASolver:
    """An Adams rule for the reverse SDE with noise tau between two levels.

    Attributes:
        predictor: Order of the predictor, 1 to 4.
        corrector: Evaluations of the corrector besides the new one; 0 leaves it out. It uses
            the noise of the step that it corrects, and no evaluation of its own.
        tau: How much noise: 0 is the ODE, 1 the reverse of the forward process.
        low: Noise is added at steps that start at this level or above,
        high: and below this one.
    """

    predictor: int = 3
    corrector: int = 3
    tau: float = 1.0
    low: float = 0.05
    high: float = 50.0

    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        check_order(self.predictor, 4, "predictor")
        if self.corrector:
            check_order(self.corrector, 4, "corrector")
        check_range("tau", self.tau, 0.0, math.inf)
        check_range("low", self.low, 0.0, self.high)

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, correct the step that led here, predict the next one.

        The state's memory holds the events that the last step started from.
        """
        step, intervals = key.step, len(levels) - 1
        past = (asked(denoise, state.x, levels[step]), *state.history)
        x = state.x
        if self.corrector and step > 0:
            before = order_at(self.corrector, step - 1, intervals)
            ends = (levels[step - 1], levels[step])
            x = self._moved(state.memory, ends, past[: before + 1], key.at(step - 1))
        order = order_at(self.predictor, step, intervals)
        after = self._moved(x, (levels[step], levels[step + 1]), past[:order], key)
        return State(after, past[: max(self.predictor - 1, self.corrector)], x)

    def _moved(
        self, x: Event, ends: tuple[float, float], past: tuple[Past, ...], key: Key
    ) -> Event:
        noisy = self.tau**2 if self.low <= ends[0] < self.high else 0.0
        kept = (ends[1] / ends[0]) ** (1 + noisy)
        weights = _weights(ends, tuple(one.level for one in past), noisy)
        fresh = ends[1] * math.sqrt(-math.expm1(2 * noisy * math.log(ends[1] / ends[0])))
        noise = noise_like(x, key, SITE_ADAMS)
        return weighted((kept, fresh, *weights), (x, noise, *(one.mean for one in past)))


@lru_cache(maxsize=4096)
def _weights(ends: tuple[float, float], levels: Levels, noisy: float) -> tuple[float, ...]:
    start, end = math.log(ends[0]), math.log(ends[1])
    return integrals(
        (start, end),
        tuple(math.log(level) for level in levels),
        lambda u: -(1 + noisy) * np.exp((1 + noisy) * (end - u)),
        lambda u: u,
    )
