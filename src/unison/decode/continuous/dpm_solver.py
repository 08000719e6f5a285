"""DPM-Solver and DPM-Solver++, multistep, with the coefficients that were published.

Lu et al., 2022: arXiv:2206.00927 (noise) and arXiv:2211.01095 (data).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.exponential import (
    Basis,
    Final,
    combined,
    halved_weights,
    moments,
    order_at,
    weights_of,
)
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law

Form = Literal["midpoint", "heun"]


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++ (data) or DPM-Solver (noise) over the last evaluations.

    The published third-order rule gives half the weight to the second difference that its
    integral has, so its measured order is 2 like that of the second; ``Multistep(3, "data")``
    has the integral.

    Attributes:
        order: 1 (DDIM) to 3.
        basis: ``data`` is the ++ of the name.
        form: At order 2, whether the slope acts from mid-step or is integrated (``heun``).
        final: ``lower`` lets the order fall to 1 at the end of every grid, not of short ones.
    """

    order: int = 2
    basis: Basis = "data"
    form: Form = "midpoint"
    final: Final = "lower"

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 3)
        check_choice("basis", self.basis, ("data", "noise"))
        check_choice("form", self.form, ("midpoint", "heun"))
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, take differences, move."""
        level, to = levels[key.step : key.step + 2]
        past = (asked(denoise, state.x, level), *state.history)
        order = order_at(self.order, key.step, len(levels) - 1, self.final)
        nodes = tuple(one.level for one in past[:order])
        weights = self._weights((level, to), nodes)
        x = combined(state.x, (level, to), past[:order], weights, self.basis)
        return State(x, past[: self.order - 1])

    def _weights(self, ends: tuple[float, float], nodes: Levels) -> tuple[float, ...]:
        if len(nodes) == 2 and self.form == "midpoint":
            return halved_weights(ends, (nodes[0], nodes[1]), self.basis)
        if len(nodes) == 3:
            return _third(ends, (nodes[0], nodes[1], nodes[2]), self.basis)
        return weights_of(ends, nodes, self.basis)


@lru_cache(maxsize=1024)
def _third(
    ends: tuple[float, float], nodes: tuple[float, float, float], basis: Basis
) -> tuple[float, float, float]:
    """Return the weights of D0 + D' x + D'' x^2, the last one halved as published."""
    width = math.log(ends[1] / ends[0])
    near, far = math.log(nodes[0] / nodes[1]) / width, math.log(nodes[1] / nodes[2]) / width
    whole, first, second = moments(ends, basis, 3)
    bend = (first * near + second / 2) / (near + far)  # weight of the difference of slopes
    one, two = (first + bend) / near, -bend / far
    return whole + one, two - one, -two
