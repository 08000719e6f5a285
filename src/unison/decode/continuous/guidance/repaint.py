"""RePaint (Lugmayr et al., 2022, arXiv:2201.09865): every step is taken several times over."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.api import Levels, Solver, State
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law

SITE_AGAIN = 0x7FFFFF14


@dataclass(frozen=True)
class RePaint:
    """After a step the event is noised back to where it came from, and the step taken again.

    With ``Replaced`` the elements that are not seen so have time to agree with those that are.
    Biased still: agreement is approached, not weighed.

    Attributes:
        solver: Who takes the step; its history begins anew each time.
        times: How often each step is taken; 1 is the solver itself without a history.
    """

    solver: Solver
    times: int = 10
    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"each step is taken at least once, got {self.times}.")

    def evaluations(self, intervals: int) -> int:
        """As many times as many."""
        return self.times * intervals * self.solver.evaluations(1)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Go down and up again, and down at last."""
        high, low = levels[key.step : key.step + 2]
        x = state.x
        for turn in range(self.times):
            own = Key(rng.derived(key.seed, turn), 0)
            if turn > 0:
                noise = rng.normal(own, SITE_AGAIN, x[0].numel()).view_as(x).to(x)
                x = x + (high**2 - low**2) ** 0.5 * noise
            x = self.solver.step((high, low), denoise, State(x), own).x
        return State(x)
