"""DPM-Solver and DPM-Solver++ as single steps: further evaluations inside an interval.

Lu et al., 2022: arXiv:2206.00927 (noise) and arXiv:2211.01095 (data).
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.exponential import (
    Basis,
    advanced,
    combined,
    halved_weights,
    staged,
)
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

Form = Literal["midpoint", "heun"]


@dataclass(frozen=True)
class DPMSolverSingle:
    """An interval costs as many evaluations as the order of its step; nothing is remembered.

    The further evaluations stand at 1/2, or at 1/3 and 2/3 of an interval in log s.

    Attributes:
        order: 1 (DDIM) to 3.
        basis: ``data`` is DPM-Solver++, ``noise`` the first DPM-Solver.
        form: At order 2, whether the slope acts from mid-step or is integrated (``heun``).
        last: Orders of the last steps; shorter grids take the end of it. ``divided`` chooses
            it to spend a budget whole, ``()`` keeps the order to the end.
    """

    order: int = 2
    basis: Basis = "data"
    form: Form = "midpoint"
    last: tuple[int, ...] = ()

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 3)
        for order in self.last:
            check_order(order, self.order)
        check_choice("basis", self.basis, ("data", "noise"))
        check_choice("form", self.form, ("midpoint", "heun"))

    def evaluations(self, intervals: int) -> int:
        """As many as the orders of the steps."""
        return sum(self._order(step, intervals) for step in range(intervals))

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate at the start and inside the interval, and move."""
        level, to = levels[key.step : key.step + 2]
        order = self._order(key.step, len(levels) - 1)
        here = asked(denoise, state.x, level)
        if order == 2 and self.form == "midpoint":
            return State(_from_middle(denoise, here, to, self.basis))
        return State(staged(denoise, here, to, order, self.basis))

    def _order(self, step: int, intervals: int) -> int:
        left = intervals - step
        return self.last[-left] if left <= len(self.last) else self.order


def divided(solver: DPMSolverSingle, budget: int) -> tuple[DPMSolverSingle, int]:
    """Return the solver and the intervals that spend a budget whole.

    Steps of the solver's order and one or two smaller ones at the end, as Lu et al. divide it:
    3, ..., 3 and then 2 and 1, or 1, or 2.

    Args:
        solver: Whose order is meant.
        budget: Evaluations, at least 1.

    Raises:
        ValueError: The budget is below 1.
    """
    if budget < 1:
        raise ValueError(f"a budget needs at least 1 evaluation, got {budget}.")
    rest = budget % solver.order
    if solver.order == 3 and rest == 0:
        return replace(solver, last=(2, 1)), budget // 3 + 1
    return replace(solver, last=(rest,) if rest else ()), -(-budget // solver.order)


def _from_middle(denoise: EventDenoiser, here: Past, to: float, basis: Basis) -> Event:
    middle = math.sqrt(here.level * to)
    there = asked(denoise, advanced(here.x, (here.level, middle), [here], basis), middle)
    ends = (here.level, to)
    weights = halved_weights(ends, (here.level, middle), basis)
    return combined(here.x, ends, [here, there], weights, basis)
