"""UniPC (Zhao et al., 2023, arXiv:2302.04867): a predictor, corrected by the next evaluation.

The linear systems of the paper give the integrals of a polynomial through the evaluations, so
``weights_of`` has them without a solve; B(h) matters where the paper puts 1/2 for the solution:
in the second-order predictor and the first-order corrector.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.exponential import (
    Basis,
    Final,
    combined,
    halved_weights,
    order_at,
    weights_of,
)
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law


@dataclass(frozen=True)
class UniPC:
    """Predicts with order p, corrects with order p + 1 once the evaluation there is made.

    No evaluation is made twice, and none for the corrector; the last step is not corrected. With
    ``final="full"`` the global order is p + 1, at most 3: the first step sets that limit.

    Attributes:
        order: 1 to 4 of the predictor.
        variant: B(h) of the paper: ``bh1`` is h, ``bh2`` is exp(h) - 1.
        basis: What is interpolated.
        final: ``lower`` lets the order fall to 1 at the end.
        uncorrected: Steps, counted from 0, whose result stays as predicted; the first ones where
            guidance is strong.
    """

    order: int = 2
    variant: Literal["bh1", "bh2"] = "bh2"
    basis: Basis = "data"
    final: Final = "lower"
    uncorrected: tuple[int, ...] = ()

    law: ClassVar[Law] = Law.GREEDY

    def __post_init__(self) -> None:
        check_order(self.order, 4)
        check_choice("variant", self.variant, ("bh1", "bh2"))
        check_choice("basis", self.basis, ("data", "noise"))
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, correct the step that led here, predict the next one.

        The state's memory holds the events that the last step started from.
        """
        past = (asked(denoise, state.x, levels[key.step]), *state.history)
        x = self.corrected(levels, key.step, state, past)
        return State(self.predicted(levels, key.step, x, past), past[: self.order], x)

    def corrected(self, levels: Levels, step: int, state: State, past: tuple[Past, ...]) -> Event:
        """Return the events at ``levels[step]``, with the evaluation there."""
        if step == 0 or step - 1 in self.uncorrected:
            return state.x
        order = order_at(self.order, step - 1, len(levels) - 1, self.final)
        return self._moved(state.memory, (levels[step - 1], levels[step]), past, order + 1)

    def predicted(self, levels: Levels, step: int, x: Event, past: tuple[Past, ...]) -> Event:
        """Return the events at the next level."""
        order = order_at(self.order, step, len(levels) - 1, self.final)
        return self._moved(x, (levels[step], levels[step + 1]), past, order)

    def _moved(
        self, x: Event, ends: tuple[float, float], past: tuple[Past, ...], count: int
    ) -> Event:
        read = past[:count]
        nodes = tuple(one.level for one in read)
        if count == 2:
            # the evaluation at the start comes first; the other is the slope's far end
            read = read if nodes[0] == ends[0] else read[::-1]
            weights = halved_weights(
                ends, (read[0].level, read[1].level), self.basis, self._total(ends)
            )
        else:
            weights = weights_of(ends, nodes, self.basis)
        return combined(x, ends, read, weights, self.basis)

    def _total(self, ends: tuple[float, float]) -> float | None:
        if self.variant == "bh2":
            return None
        width = math.log(ends[0] / ends[1])
        return width if self.basis == "data" else -ends[1] * width
