"""How does anything at all run beside others? As ordinary code that pauses at each evaluation."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from unison.decode import Canvas, StepInfo, Strategy
from unison.generation import infilling
from unison.generation.ordering import Order
from unison.generation.speculating import write as speculated
from unison.generation.write import together
from unison.language_model import LanguageModel
from unison.serve.batching.hub import Hub, SharedNetwork, Turn
from unison.serve.batching.telling import seen
from unison.serve.batching.unit import Unit
from unison.serve.batching.work import Answered, Question, Write
from unison.speculation import Speculation
from unison.speculation.pearl import Pearl


class _Stopped(Exception):  # noqa: N818  # no error: the text is done
    """A stop string ended the text."""


class TaskLane:
    """Runs each unit by itself, as ``unison.generate`` would; its evaluations are shared.

    For what no other lane takes: questions, holes that a left-to-right model fills, speculation,
    strategies that ask other models.

    Args:
        hub: Where evaluations are shared.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._turns: dict[Unit, Turn] = {}

    @property
    def busy(self) -> bool:
        """Whether it has units."""
        return bool(self._turns)

    def takes(self, unit: Unit) -> bool:
        """Return True: it takes anything."""
        return True

    def join(self, unit: Unit) -> None:
        """Begin a unit."""
        self._turns[unit] = Turn(self._run(unit))

    def leave(self, unit: Unit) -> None:
        """Drop a unit where it stands."""
        turn = self._turns.pop(unit, None)
        if turn is not None:
            turn.drop()

    def turns(self) -> Sequence[Turn]:
        """Return the turn of every unit."""
        return list(self._turns.values())

    def settle(self) -> Sequence[Unit]:
        """Return the units whose computation ended."""
        done = [unit for unit, turn in self._turns.items() if turn.over]
        for unit in done:
            turn = self._turns.pop(unit)
            unit.outcome = turn.value if turn.error is None else turn.error
        return done

    def _run(self, unit: Unit) -> Callable[[], Any]:
        work = unit.work
        if isinstance(work, Question):
            return lambda: Answered(work.answer(shared(work.model, self._hub)))
        return lambda: self._write(unit, work)

    def _write(self, unit: Unit, work: Write) -> Any:
        order = work.order.some([unit.number])
        teller = unit.teller
        assert teller is not None  # every text has one
        if isinstance(order.how, Speculation | Pearl):
            return teller.finish(next(iter(speculated(order))))
        strategy: Strategy = order.how
        process = order.model.process

        def watch(step: int, canvas: Canvas, info: StepInfo) -> None:
            if teller.step(step, 0, seen(strategy, process, canvas, info)):
                raise _Stopped

        order = dataclasses.replace(order, model=shared(order.model, self._hub))
        observer = watch if teller.curious and _whole(order) else None
        try:
            return teller.finish(next(iter(together(order, observer))))
        except _Stopped:
            return teller.finish(teller.early())


def _whole(order: Order) -> bool:
    """Whether steps are seen on the canvas itself; fillings are written behind it."""
    return not infilling.has_hole(order.model, order.texts[0].row)


def shared(model: LanguageModel, hub: Hub) -> LanguageModel:
    """Return a model of the same weights whose evaluations are shared."""
    return dataclasses.replace(model, network=SharedNetwork(model.network, hub))
