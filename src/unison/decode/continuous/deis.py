"""DEIS (Zhang and Chen, 2022, arXiv:2204.13902): the noise is extrapolated by a polynomial."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, State
from unison.decode.continuous.coordinates import Axis, InTime, LogLevel, Power
from unison.decode.continuous.exponential import Final, Rule, stepped
from unison.prob.rng import Key
from unison.process.continuous import GaussianProcess, VariancePreserving
from unison.types import EventDenoiser, Law

Variant = Literal["tab", "rhoab", "logrho"]


@dataclass(frozen=True)
class DEIS:
    """y' = y + sum_j e_j C_j, where C_j integrates a Lagrange polynomial over s.

    Order r here is their r - 1: it counts evaluations.

    Attributes:
        order: 1 (DDIM) to 4.
        variant: In what the polynomial is: time (``tab``), the level (``rhoab``; with
            ``final="full"`` this is LMS of arXiv:2206.00364), or its logarithm (``logrho``).
        process: Whose time ``tab`` means.
        final: ``lower`` lets the order fall to 1 at the end.
    """

    order: int = 3
    variant: Variant = "logrho"
    process: GaussianProcess = field(default_factory=VariancePreserving)
    final: Final = "lower"

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 4)
        check_choice("variant", self.variant, ("tab", "rhoab", "logrho"))
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, extrapolate the noise, move."""
        axes: dict[Variant, Axis] = {
            "tab": InTime(self.process),
            "rhoab": Power(1.0),
            "logrho": LogLevel(),
        }
        rule = Rule(self.order, "noise", axes[self.variant], self.final, False)
        return stepped(rule, levels, denoise, state, key.step)
