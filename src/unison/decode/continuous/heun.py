"""The sampler of EDM (Karras et al., 2022, arXiv:2206.00364, algorithms 1 and 2)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.allowed import check_range
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

SITE_CHURN = 0x7FFFFF52


@dataclass(frozen=True)
class Heun:
    """Heun's rule in s, of order 2; on a grid that ends at 0, 2n - 1 evaluations for n steps."""

    law: ClassVar[Law] = Law.GREEDY

    def evaluations(self, intervals: int) -> int:
        """Two an interval."""
        return 2 * intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate at both ends, and move by the mean of both."""
        return State(_moved(state, levels[key.step], levels[key.step + 1], denoise))


@dataclass(frozen=True)
class HeunChurn:
    """Heun's rule after noise was added and the level raised accordingly.

    The rise stops at the first level of the grid, so that a model is not asked beyond its range.

    Attributes:
        churn: How much noise over the whole run; each step adds churn / steps, at most
            sqrt(2) - 1, relative to its level.
        low: Noise is added from this level on,
        high: up to this one.
        inflate: Standard deviation of the noise; slightly above 1 against lost detail.
    """

    churn: float = 10.0
    low: float = 0.05
    high: float = 50.0
    inflate: float = 1.0

    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        check_range("churn", self.churn, 0.0, math.inf)
        check_range("low", self.low, 0.0, self.high)
        check_range("inflate", self.inflate, 0.0, 2.0)

    def evaluations(self, intervals: int) -> int:
        """Two an interval."""
        return 2 * intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Add noise, evaluate at both ends, and move by the mean of both."""
        level, to = levels[key.step : key.step + 2]
        rise = min(self.churn / len(levels), math.sqrt(2) - 1)
        if rise == 0 or not self.low <= level <= self.high:
            return State(_moved(state, level, to, denoise))
        raised = min(level * (1 + rise), levels[0])
        noise = noise_like(state.x, key, SITE_CHURN)
        added = self.inflate * math.sqrt(raised**2 - level**2)
        return State(_moved(State(state.x.add(noise, alpha=added)), raised, to, denoise))


def _moved(state: State, level: float, to: float, denoise: EventDenoiser) -> Event:
    first = asked(denoise, state.x, level).noise
    second = asked(denoise, state.x.add(first, alpha=to - level), to).noise
    return state.x.add(first + second, alpha=(to - level) / 2)
