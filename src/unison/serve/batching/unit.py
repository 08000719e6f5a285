"""What does an engine run? The texts of a piece of work, or its question; and how does a lane?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from unison.serve.batching import account
from unison.serve.batching.hub import Turn
from unison.serve.batching.telling import Teller
from unison.serve.batching.work import Answered, Question, Tell, Work, Wrote

Outcome = Wrote | Answered | Exception


@dataclass(eq=False)
class Unit:
    """One text of a piece of work, or its question.

    Attributes:
        ticket: The work's number.
        work: What it belongs to.
        number: Which text of the order; 0 for a question.
        teller: Follows the text; ``None`` for a question.
        memory: Bytes it takes while it runs.
        outcome: How it ended; ``None`` while it runs.
    """

    ticket: int
    work: Work
    number: int
    teller: Teller | None
    memory: int
    outcome: Outcome | None = field(default=None)


def divided(ticket: int, work: Work, tell: Tell) -> list[Unit]:
    """Return what a piece of work is made of, each with the memory it takes.

    Args:
        ticket: The work's number.
        work: A question, or texts to write.
        tell: Who hears of the texts.
    """
    if isinstance(work, Question):
        size = account.positions_bytes(work.model, work.tokens)
        return [Unit(ticket, work, 0, None, size)]
    return [
        Unit(ticket, work, i, Teller(work, i, tell), account.text_bytes(work.order, i))
        for i in range(len(work.order.texts))
    ]


@runtime_checkable
class Lane(Protocol):
    """One way to run units together.

    A lane is asked for turns, the engine lets them run to their next evaluation, and tells the
    lane; units whose ``outcome`` is set by then are done and the lane has forgotten them.
    """

    @property
    def busy(self) -> bool:
        """Whether it has units."""
        ...

    def takes(self, unit: Unit) -> bool:
        """Return whether the unit is of the lane's kind."""
        ...

    def join(self, unit: Unit) -> None:
        """Take a unit in; one that was parked before goes on or starts again."""
        ...

    def leave(self, unit: Unit) -> None:
        """Forget a unit, wherever it stands, and free what it holds."""
        ...

    def turns(self) -> Sequence[Turn]:
        """Return what is to run in this round."""
        ...

    def settle(self) -> Sequence[Unit]:
        """Look at the turns after the round; return the units that are done."""
        ...
