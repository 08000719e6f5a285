"""DDIM (Song, Meng and Ermon, 2021, arXiv:2010.02502): the clean mean is held over a step."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.exponential import advanced
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law


@dataclass(frozen=True)
class DDIM:
    """y' = (s'/s) y + (1 - s'/s) D(y, s): order 1, the same in every basis."""

    law: ClassVar[Law] = Law.GREEDY

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and move towards the answer."""
        level, after = levels[key.step : key.step + 2]
        return State(advanced(state.x, (level, after), [asked(denoise, state.x, level)]))
