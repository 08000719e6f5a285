"""Classical Runge-Kutta rules on dy/ds = e: the rhoRK of DEIS (arXiv:2204.13902)."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from unison.decode.continuous.allowed import check_choice
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.exponential import weighted
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law


class Tableau(NamedTuple):
    """An explicit rule.

    Attributes:
        stages: For each further stage, the share of every slope before it; their sum is where
            in the interval it stands.
        weights: Of the slopes in the result.
    """

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


RULES: dict[str, Tableau] = {
    "midpoint": Tableau(((1 / 2,),), (0.0, 1.0)),
    "heun": Tableau(((1.0,),), (1 / 2, 1 / 2)),
    "kutta3": Tableau(((1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": Tableau(
        ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
}


@dataclass(frozen=True)
class RungeKutta:
    """Order 2 (``midpoint``, ``heun``), 3 (``kutta3``) or 4 (``rk4``), as many evaluations.

    Attributes:
        rule: Which one.
        scale: Whether it steps in s or in log s.
    """

    rule: Literal["midpoint", "heun", "kutta3", "rk4"] = "heun"
    scale: Literal["level", "log"] = "level"

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, RULES)
        check_choice("scale", self.scale, ("level", "log"))

    def evaluations(self, intervals: int) -> int:
        """One a stage in every interval."""
        return len(RULES[self.rule].weights) * intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate the stages, and move by their weighted slope."""
        level, to = levels[key.step : key.step + 2]
        tableau = RULES[self.rule]
        width = to - level if self.scale == "level" else math.log(to / level)
        slopes = [self._slope(denoise, state.x, level)]
        for shares in tableau.stages:
            x = weighted((1.0, *(width * share for share in shares)), (state.x, *slopes))
            slopes.append(self._slope(denoise, x, self._between(level, to, sum(shares))))
        weights = (1.0, *(width * weight for weight in tableau.weights))
        return State(weighted(weights, (state.x, *slopes)))

    def _slope(self, denoise: EventDenoiser, x: Event, level: float) -> Event:
        here = asked(denoise, x, level)
        return here.noise if self.scale == "level" else x - here.mean

    def _between(self, level: float, to: float, share: float) -> float:
        if share == 1:
            return to
        return (
            level + share * (to - level)
            if self.scale == "level"
            else (level * (to / level) ** share)
        )
