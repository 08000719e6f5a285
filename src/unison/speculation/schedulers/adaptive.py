"""Draft where drafts have paid lately; where they have not, look again more and more seldom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation import survival
from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree


class Lately(NamedTuple):
    """What is remembered of one row.

    Attributes:
        gain: Running mean of drafts accepted in a round that drafted.
        rest: Rounds to sit out.
        pause: Rounds to sit out after the next failure.
    """

    gain: float
    rest: int
    pause: int


@dataclass(frozen=True)
class Adaptive:
    """For drafters that copy: they cost nothing themselves, but every draft is read by the target.

    After a round the running mean of accepted drafts moves half way to what passed. While it is
    below ``worth``, rounds are sat out, each time twice as many up to ``patience``, so that text
    which repeats nothing is read one token at a time; above, twice as many drafts are made as
    have passed lately.

    Attributes:
        most: Levels at most.
        worth: Accepted drafts that pay for the target's reading of those that are not.
        patience: Most rounds sat out in a row.
    """

    foresees: ClassVar[bool] = False
    most: int = 16
    worth: float = 1.0
    patience: int = 8

    def __post_init__(self) -> None:
        if self.most < 1 or self.patience < 0 or self.worth < 0:
            raise ValueError(
                "most must be at least 1, worth and patience at least 0, got "
                f"{self.most}, {self.worth} and {self.patience}."
            )

    def start(self, rows: int) -> tuple[Lately, ...]:
        """Return the hope of a fresh text: drafts are tried at once."""
        return (Lately(self.worth, 0, 1),) * rows

    def plan(self, memory: tuple[Lately, ...], most: Plan) -> Plan:
        """Return how much each row drafts."""
        own = [self._depth(row) for row in memory]
        return Plan(
            tuple(min(depth, room) for depth, room in zip(own, most.depth, strict=True)),
            tuple(room if depth else 0 for depth, room in zip(own, most.nodes, strict=True)),
        )

    def go_on(self, memory: tuple[Lately, ...], tree: Tree) -> Bool[Tensor, " B"]:
        """Return True."""
        return torch.ones_like(tree.live[:, 0])

    def learn(
        self, memory: tuple[Lately, ...], outcome: Outcome, seconds: Mapping[str, float]
    ) -> tuple[Lately, ...]:
        """Return what is remembered after a round."""
        drafted = survival.heights(outcome.tree).tolist()
        rows = zip(memory, outcome.accepted, drafted, strict=True)
        return tuple(self._after(*row) for row in rows)

    def keep(self, memory: tuple[Lately, ...], rows: Sequence[int]) -> tuple[Lately, ...]:
        """Return what is remembered of some rows."""
        return tuple(memory[row] for row in rows)

    def _depth(self, row: Lately) -> int:
        return 0 if row.rest else min(1 + round(2 * row.gain), self.most)

    def _after(self, row: Lately, accepted: int, drafted: int) -> Lately:
        if row.rest:
            return row._replace(rest=row.rest - 1)
        if drafted == 0:  # nothing to copy was found: that cost nothing and tells nothing
            return row
        gain = (row.gain + accepted) / 2
        if gain >= self.worth:
            return Lately(gain, 0, 1)
        rest = min(row.pause, self.patience)
        return Lately(gain, rest, min(2 * row.pause, max(self.patience, 1)))
