"""Draft until a rejection is likely to have happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from unison.speculation import survival
from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree


@dataclass(frozen=True)
class SpecDec:
    """Stop once 1 - a_1 a_2 ... a_i > ``stop``, as the drafter judges its own drafts.

    SpecDec++ (Huang et al., 2024, arXiv:2405.19715), where the best policy of the decision
    process is such a threshold. A draft is judged when it is read to draft the next one, which by
    then is drawn and stays: the last draft never decides about itself. For drafters that judge,
    with an acceptance head; others draft to the end.

    Attributes:
        stop: 0.3 as published; 0.7 drafts longer.
        least: Levels drafted in any case.
        most: Levels at most.
    """

    foresees: ClassVar[bool] = False
    stop: float = 0.3
    least: int = 2
    most: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.stop <= 1:
            raise ValueError(f"stop is a probability, got {self.stop}.")
        if not 0 <= self.least <= self.most:
            raise ValueError(
                f"least must be at least 0 and at most most, got {self.least} and {self.most}."
            )

    def start(self, rows: int) -> None:
        """Return nothing: it remembers nothing."""
        del rows

    def plan(self, memory: None, most: Plan) -> Plan:
        """Return the longest draft."""
        return Plan(tuple(min(self.most, depth) for depth in most.depth), most.nodes)

    def go_on(self, memory: None, tree: Tree) -> Bool[Tensor, " B"]:
        """Return which rows have a way to the front that may all be accepted."""
        young = survival.heights(tree) < self.least
        if tree.judged is None:
            return tree.live[:, 0]
        whole = survival.at_the_front(tree, survival.along(tree, tree.judged))
        return young | (1 - whole <= self.stop)

    def learn(self, memory: None, outcome: Outcome, seconds: Mapping[str, float]) -> None:
        """Return nothing."""

    def keep(self, memory: None, rows: Sequence[int]) -> None:
        """Return nothing."""
