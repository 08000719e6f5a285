"""What brings back the texture that a resting encoder smooths away? A little of the first noise.

Faster Diffusion (Li et al., 2023, arXiv:2312.09608, section on prior noise): late in a run
x_t <- x_t + strength x_T before each step. It is a change of the events and not of the model, so it
is a solver around a solver: the first events lie in its state, and searches can fork it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.api import Levels, Solver, State
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law


@dataclass(frozen=True)
class PriorNoise:
    """A solver that mixes some of its first events into every late step.

    The share is of events scaled to keep variance 1 under noise (x_t of a variance-preserving
    process): y gains strength sqrt(1 + s^2) y_0 / sqrt(1 + s_0^2).

    Attributes:
        solver: The rule.
        strength: Share of the first events; as published 0.003. 0 changes nothing.
        below: The steps that begin at levels below this gain it; the default is half time on the
            schedule of Stable Diffusion, where it was published.
    """

    solver: Solver
    strength: float = 0.003
    below: float = 1.6
    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        if not (self.strength >= 0 and math.isfinite(self.strength)):
            raise ValueError(f"strength must be a number of at least 0, got {self.strength}.")
        if not self.below > 0:
            raise ValueError(f"below must be a level above 0, got {self.below}.")

    def evaluations(self, intervals: int) -> int:
        """As many as the rule makes."""
        return self.solver.evaluations(intervals)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Add the share, and step."""
        first, inner = (state.x, None) if state.memory is None else state.memory
        level, x = levels[key.step], state.x
        if level < self.below and self.strength > 0:
            share = self.strength * math.sqrt((1 + level**2) / (1 + levels[0] ** 2))
            x = x + share * first
        moved = self.solver.step(levels, denoise, State(x, state.history, inner), key)
        return State(moved.x, moved.history, (first, moved.memory))
