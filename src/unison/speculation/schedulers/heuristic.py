"""Two drafts more after a success, one less after a failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation import survival
from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree


@dataclass(frozen=True)
class Heuristic:
    """Draft two levels more after a round whose drafts all passed, else one less.

    The rule of transformers' assisted generation (``heuristic``). Rounds without drafts leave the
    length as it is.

    Attributes:
        first: Levels in the first round.
        most: Levels at most.
    """

    foresees: ClassVar[bool] = False
    first: int = 5
    most: int = 40

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.most:
            raise ValueError(
                f"first must be at least 1 and at most most, got {self.first} and {self.most}."
            )

    def start(self, rows: int) -> tuple[int, ...]:
        """Return the first length of each row."""
        return (self.first,) * rows

    def plan(self, memory: tuple[int, ...], most: Plan) -> Plan:
        """Return the lengths."""
        depths = zip(memory, most.depth, strict=True)
        return Plan(tuple(min(own, depth) for own, depth in depths), most.nodes)

    def go_on(self, memory: tuple[int, ...], tree: Tree) -> Bool[Tensor, " B"]:
        """Return True."""
        return torch.ones_like(tree.live[:, 0])

    def learn(
        self, memory: tuple[int, ...], outcome: Outcome, seconds: Mapping[str, float]
    ) -> tuple[int, ...]:
        """Return the next lengths."""
        drafted = survival.heights(outcome.tree).tolist()
        rows = zip(memory, outcome.accepted, drafted, strict=True)
        return tuple(self._next(*row) for row in rows)

    def keep(self, memory: tuple[int, ...], rows: Sequence[int]) -> tuple[int, ...]:
        """Return those of some rows."""
        return tuple(memory[row] for row in rows)

    def _next(self, depth: int, accepted: int, drafted: int) -> int:
        if drafted == 0:
            return depth
        return min(depth + 2, self.most) if accepted == drafted else max(depth - 1, 1)
