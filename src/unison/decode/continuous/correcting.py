"""How does a multistep rule use the evaluation at the end of a step? Three ways to correct."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.exponential import Final, order_at
from unison.types import Event, EventDenoiser

Corrector = Literal["none", "reused", "fresh"]
Moved = Callable[[Event, tuple[float, float], Sequence[Past]], Event]


class Plan(NamedTuple):
    """When a rule predicts and corrects, and with how many evaluations.

    Attributes:
        order: Evaluations of a prediction, from its start backwards; a correction reads the one
            at its end as well.
        corrector: ``none``; ``reused``: a step is taken again once the evaluation at its end is
            made, which the next one needs anyway, so the last step is not corrected (UniPC, Zhao
            et al., 2023, arXiv:2302.04867); ``fresh``: and the corrected events are evaluated
            anew, two evaluations an interval.
        final: Whether the order falls to 1 at the end.
    """

    order: int
    corrector: Corrector
    final: Final

    def check(self, highest: int) -> None:
        """Refuse a plan that does not exist.

        Raises:
            ValueError: A field is out of range; ``highest`` is that of the order.
        """
        check_order(self.order, highest)
        check_choice("corrector", self.corrector, ("none", "reused", "fresh"))
        check_choice("final", self.final, ("lower", "full"))

    def evaluations(self, intervals: int) -> int:
        """One an interval; of a fresh corrector two, but for the last."""
        return 2 * intervals - 1 if self.corrector == "fresh" else intervals

    def step(
        self, moved: Moved, levels: Levels, denoise: EventDenoiser, state: State, step: int
    ) -> State:
        """Evaluate, correct where the last step was predicted only, and predict.

        Args:
            moved: The rule: events at the second level from those at the first, through
                evaluations, of which the first one stands at the first level unless the last
                one of a correction does.
            levels: The whole grid.
            denoise: The model.
            state: Its memory holds the events the last step started from.
            step: Which interval.
        """
        intervals = len(levels) - 1
        past = (asked(denoise, state.x, levels[step]), *state.history)
        x = state.x
        if state.memory is not None:
            order = order_at(self.order, step - 1, intervals, self.final)
            x = moved(state.memory, (levels[step - 1], levels[step]), _ahead(past, order))
        order = order_at(self.order, step, intervals, self.final)
        ends = (levels[step], levels[step + 1])
        after = moved(x, ends, past[:order])
        if self.corrector == "fresh" and step < intervals - 1:
            after = moved(x, ends, _ahead((asked(denoise, after, ends[1]), *past), order))
        return State(after, past[: self.order], x if self.corrector == "reused" else None)


def _ahead(past: tuple[Past, ...], order: int) -> tuple[Past, ...]:
    """Return the evaluations of a correction: the step's start, its end, and earlier ones."""
    return (past[1], past[0], *past[2 : order + 1])
