"""Restart sampling (Xu et al., 2023, arXiv:2306.14878): go back up with fresh noise, down again.

Errors that were made above a level are forgotten by the noise; the way down is an ODE.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from unison.decode.continuous.allowed import check_order, check_range
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

SITE_RESTART = 0x7FFFFF30  # and the next 15


@dataclass(frozen=True)
class Restart:
    """Heun's rule in s, with restarts after one of its steps.

    Attributes:
        place: After which share of the intervals.
        rise: By which factor the level is raised; never above the grid's first level.
        times: Restarts, 1 to 16.
        share: Steps of equal log s on each way down, relative to the grid's intervals.
    """

    place: float = 0.5
    rise: float = 3.0
    times: int = 1
    share: float = 0.25

    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        check_range("place", self.place, 0.0, 1.0)
        check_range("rise", self.rise, 1.0, math.inf)
        check_order(self.times, 16, "times")
        check_range("share", self.share, 0.0, 1.0)

    def evaluations(self, intervals: int) -> int:
        """Two an interval, those of the restarts among them."""
        return 2 * (intervals + self.times * self._down(intervals))

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Move down, and at the chosen step go up and down again."""
        level, to = levels[key.step : key.step + 2]
        intervals = len(levels) - 1
        x = _moved(state.x, (level, to), denoise)
        if key.step == min(int(self.place * intervals), intervals - 1):
            high, down = min(to * self.rise, levels[0]), self._down(intervals)
            back = (*(high * (to / high) ** (step / down) for step in range(down)), to)
            for time in range(self.times):
                noise = noise_like(x, key, SITE_RESTART + time)
                x = x.add(noise, alpha=math.sqrt(high**2 - to**2))
                for ends in pairwise(back):
                    x = _moved(x, ends, denoise)
        return State(x)

    def _down(self, intervals: int) -> int:
        return max(1, math.ceil(self.share * intervals))


def _moved(x: Event, ends: tuple[float, float], denoise: EventDenoiser) -> Event:
    width = ends[1] - ends[0]
    first = asked(denoise, x, ends[0]).noise
    second = asked(denoise, x.add(first, alpha=width), ends[1]).noise
    return x.add(first + second, alpha=width / 2)
