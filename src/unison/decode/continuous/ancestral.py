"""Ancestral sampling (Ho et al., 2020, arXiv:2006.11239) and DDIM with eta (arXiv:2010.02502).

Given the clean event, y' is normal around D + k (y - D) with the deviation w = eta s' sqrt(1 -
(s'/s)^2) and k = sqrt(s'^2 - w^2) / s. This is "Euler ancestral" in the frame of y.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.allowed import check_range
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law

SITE_ANCESTRAL = 0x7FFFFF26


@dataclass(frozen=True)
class Ancestral:
    """Each step samples q(y' | y, x_0 = D(y)); with eta=1 the posterior of the forward process.

    Attributes:
        eta: How much of the posterior's noise is fresh: 1 is DDPM, 0 is DDIM.
    """

    eta: float = 1.0

    law: ClassVar[Law] = Law.EXACT

    def __post_init__(self) -> None:
        check_range("eta", self.eta, 0.0, 1.0)

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and draw the next events."""
        level, to = levels[key.step : key.step + 2]
        fresh = self.eta * to * math.sqrt(1 - (to / level) ** 2)
        kept = math.sqrt(to**2 - fresh**2) / level
        mean = asked(denoise, state.x, level).mean
        noise = noise_like(state.x, key, SITE_ANCESTRAL)
        return State(mean + kept * (state.x - mean) + fresh * noise)
