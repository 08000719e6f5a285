"""Draft on while the drafter is sure of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation import survival
from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree


class Thresholds(NamedTuple):
    """What is remembered of each row.

    Attributes:
        at: Its threshold.
        matched: Running mean of the share of its drafts that was accepted.
    """

    at: tuple[float, ...]
    matched: tuple[float, ...]


@dataclass(frozen=True)
class Confidence:
    """Stop once the last draft was less likely than a threshold.

    The last draft itself stays: whether a token is drafted never depends on the token. With the
    defaults the rule of transformers' assisted generation (0.4); with ``cumulative``, the chance
    that all drafts are accepted; with ``adapt``, the threshold of self-speculative decoding
    (Zhang et al., 2024, arXiv:2309.08168), which rises while fewer drafts than wanted match and
    falls while more do, unless the draft ran to its end.

    Attributes:
        threshold: At first.
        depth: Levels at most.
        cumulative: Multiply along the way from the root.
        own: Ask the drafter's own estimate, made before the token was drawn, in place of its
            probability of the token.
        adapt: Share of drafts that should match, 0.9 in the paper; ``None`` for a threshold that
            stays.
    """

    foresees: ClassVar[bool] = False
    threshold: float = 0.4
    depth: int = 20
    cumulative: bool = False
    own: bool = False
    adapt: float | None = None

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError(f"depth must be at least 0, got {self.depth}.")
        shares = (self.threshold, 0.5 if self.adapt is None else self.adapt)
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError(
                f"threshold and adapt are probabilities, got {self.threshold} and {self.adapt}."
            )

    def start(self, rows: int) -> Thresholds:
        """Return the first threshold of each row."""
        return Thresholds((self.threshold,) * rows, (self.adapt or 0.0,) * rows)

    def plan(self, memory: Thresholds, most: Plan) -> Plan:
        """Return the longest draft."""
        return Plan(tuple(min(self.depth, depth) for depth in most.depth), most.nodes)

    def go_on(self, memory: Thresholds, tree: Tree) -> Bool[Tensor, " B"]:
        """Return which rows have a draft in front that is likely enough."""
        chance = tree.confidence if self.own else tree.logq.exp()
        sure = survival.along(tree, chance) if self.cumulative else chance
        at = torch.tensor(memory.at, dtype=sure.dtype, device=sure.device)
        return survival.at_the_front(tree, sure) >= at

    def learn(
        self, memory: Thresholds, outcome: Outcome, seconds: Mapping[str, float]
    ) -> Thresholds:
        """Return adapted thresholds; rows that drafted nothing keep theirs."""
        if self.adapt is None:
            return memory
        drafted = survival.heights(outcome.tree).tolist()
        rows = zip(*memory, outcome.accepted, drafted, strict=True)
        adapted = [self._adapted(*row) for row in rows]
        return Thresholds(tuple(at for at, _ in adapted), tuple(mean for _, mean in adapted))

    def keep(self, memory: Thresholds, rows: Sequence[int]) -> Thresholds:
        """Return those of some rows."""
        return Thresholds(*(tuple(part[row] for row in rows) for part in memory))

    def _adapted(
        self, at: float, matched: float, accepted: int, drafted: int
    ) -> tuple[float, float]:
        """Return a threshold and mean after a round: steps of 0.01, of which a tenth is gone."""
        if drafted == 0 or self.adapt is None:
            return at, matched
        mean = 0.5 * matched + 0.5 * accepted / drafted
        lower = 0.0 if drafted >= self.depth else -0.01
        step = 0.01 if mean < self.adapt else lower
        return min(max(at + 0.1 * step, 0.0), 1.0), mean
