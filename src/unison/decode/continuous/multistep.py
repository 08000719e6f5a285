"""Exponential multistep rules in any basis and coordinate: the generic solver.

Data basis, log s: DPM-Solver++ with exact integrals. Noise basis: DEIS (arXiv:2204.13902).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, State
from unison.decode.continuous.coordinates import Axis, LogLevel
from unison.decode.continuous.exponential import Basis, Final, Rule, stages_at, stepped
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law


@dataclass(frozen=True)
class Multistep:
    """The last ``order`` evaluations are interpolated and integrated exactly.

    Attributes:
        order: 1 (DDIM) to 4. As it is, the global order is at most 2: one step of order 1 at
            either end sets the limit. With ``warm`` and ``final="full"`` it is ``order``.
        basis: ``noise`` is the safer one under guidance and with few steps.
        coordinate: What the interpolation is a polynomial in.
        final: ``lower`` lets the order fall to 1 at the end, which few steps need.
        warm: Cross the first intervals by single steps; they cost order - 2 more evaluations.
    """

    order: int = 3
    basis: Basis = "noise"
    coordinate: Axis = field(default_factory=LogLevel)
    final: Final = "lower"
    warm: bool = False

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 4)
        check_choice("basis", self.basis, ("data", "noise"))
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval, and those of a warm start."""
        return sum(stages_at(self._rule(), step, intervals) for step in range(intervals))

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, interpolate, move."""
        return stepped(self._rule(), levels, denoise, state, key.step)

    def _rule(self) -> Rule:
        return Rule(self.order, self.basis, self.coordinate, self.final, self.warm)
