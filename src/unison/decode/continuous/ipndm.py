"""PNDM (Liu et al., 2022, arXiv:2202.09778) and iPNDM (arXiv:2204.13902, appendix H.2).

Adams-Bashforth with the coefficients of equal steps, whatever the grid: dy/ds = e.
"""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.exponential import Final, order_at, weighted
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

COEFFICIENTS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class IPNDM:
    """y' = y + (s' - s) sum_j c_j e_j.

    Of order ``order`` on grids with equal steps in s (Karras with rho=1) only; of order 2 on
    smooth grids in any other scale.

    Attributes:
        order: 1 to 4.
        final: ``lower`` lets the order fall to 1 at the end.
        warm: The first order - 1 intervals are crossed by the classical Runge-Kutta rule, of
            four evaluations: PNDM. Otherwise the order rises from 1: iPNDM.
    """

    order: int = 3
    final: Final = "lower"
    warm: bool = False

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 4)
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval, three more in those of a warm start."""
        return intervals + 3 * sum(self._warms(step) for step in range(intervals))

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and move by fixed coefficients."""
        level, to = levels[key.step : key.step + 2]
        here = asked(denoise, state.x, level)
        past = (here, *state.history)
        order = order_at(self.order, key.step, len(levels) - 1, self.final)
        noise = (
            _classical(denoise, here, to)
            if self._warms(key.step)
            else weighted(COEFFICIENTS[order - 1], [one.noise for one in past[:order]])
        )
        return State(state.x.add(noise, alpha=to - level), past[: self.order - 1])

    def _warms(self, step: int) -> bool:
        return self.warm and step < self.order - 1


def _classical(denoise: EventDenoiser, here: Past, to: float) -> Event:
    """Return the mean noise of an interval by the classical Runge-Kutta rule."""
    width = to - here.level
    noises = [here.noise]
    for share in (0.5, 0.5, 1.0):
        x = here.x.add(noises[-1], alpha=share * width)
        noises.append(asked(denoise, x, here.level + share * width).noise)
    return weighted((1 / 6, 1 / 3, 1 / 3, 1 / 6), noises)
