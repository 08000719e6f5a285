"""Draft as much as is expected to write most tokens per second."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation import survival
from unison.speculation.cost import CostModel, linear
from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree

_STRENGTH, _HOPE = 2.0, 0.7  # drafts seen before the first, and the share of them that passed


class Seen(NamedTuple):
    """What is remembered of one row.

    Attributes:
        tries: For each depth from 1, how often a draft there was reached, fading.
        passed: And how often it passed.
        idle: Rounds since the last with drafts.
    """

    tries: tuple[float, ...]
    passed: tuple[float, ...]
    idle: int


@dataclass(frozen=True)
class Optimal:
    """Choose the depth with most expected tokens per second, from a row's own acceptance so far.

    Expected tokens are 1 + a_1 + a_2 + ..., where a_j is the chance that the first j drafts pass.
    Where the drafter estimates its own acceptance, drafting also stops once one level more is not
    worth its time. With ``together``, the rows are requests that share evaluations of the
    target, and drafts are admitted in descending a over all of them until the first that does not
    raise the common rate (DSpark: DeepSeek-AI, 2026, arXiv:2607.05147, algorithm 1).

    Law: lengths follow from rounds before and estimates made before a token was drawn.

    Attributes:
        cost: Of the target and the drafter; made up where none was measured.
        depth: Levels at most.
        breadth: Nodes of each level, for trees.
        fade: Weight of what was seen a round before.
        every: Rounds without drafts before one is tried again.
        together: Share evaluations; a row's lengths then depend on its batch.
    """

    foresees: ClassVar[bool] = False
    cost: CostModel = field(default_factory=lambda: linear(0.12))
    depth: int = 16
    breadth: int = 1
    fade: float = 0.95
    every: int = 16
    together: bool = False

    def __post_init__(self) -> None:
        if self.depth < 0 or self.breadth < 1 or self.every < 1 or not 0 < self.fade <= 1:
            raise ValueError(
                "depth must be at least 0, breadth and every at least 1 and fade in (0, 1], got "
                f"{self.depth}, {self.breadth}, {self.every} and {self.fade}."
            )

    def start(self, rows: int) -> tuple[Seen, ...]:
        """Return that nothing was seen."""
        zero = (0.0,) * self.depth
        return (Seen(zero, zero, 0),) * rows

    def plan(self, memory: tuple[Seen, ...], most: Plan) -> Plan:
        """Return the depths that are expected to be best."""
        room = [min(self.depth, depth) for depth in most.depth]
        chances = [_survival(row)[:depth] for row, depth in zip(memory, room, strict=True)]
        if self.together:
            rows = len(memory)
            depths = admitted(chances, lambda nodes: self._rate(rows, nodes))
        else:
            depths = [
                best_depth(one, lambda depth: self.cost.round(self.breadth * depth, depth))
                for one in chances
            ]
        tried = [
            min(max(depth, int(row.idle >= self.every)), left)
            for depth, row, left in zip(depths, memory, room, strict=True)
        ]
        nodes = [min(self.breadth * d, n) for d, n in zip(tried, most.nodes, strict=True)]
        return Plan(tuple(tried), tuple(nodes))

    def go_on(self, memory: tuple[Seen, ...], tree: Tree) -> Bool[Tensor, " B"]:
        """Return which rows gain by one level more, as far as the drafter says.

        The next level is taken to be as sure as the last.
        """
        chance = torch.where(tree.live, tree.confidence, 1.0)
        reach = survival.along(tree, chance)
        tokens = reach.sum(1)
        more = survival.at_the_front(tree, reach) * survival.at_the_front(tree, chance)
        count, levels = tree.live.sum(1), survival.heights(tree)
        most = tree.tokens.shape[1] + self.breadth
        known = [self.cost.target(1 + n) + self.cost.overhead for n in range(most)]
        table = torch.tensor(known, dtype=reach.dtype, device=reach.device)
        now = table[count - 1] + levels * self.cost.draft
        then = table[count - 1 + self.breadth] + (levels + 1) * self.cost.draft
        silent = (chance == 1).all(1)
        return silent | ((tokens + more) / then > tokens / now)

    def learn(
        self, memory: tuple[Seen, ...], outcome: Outcome, seconds: Mapping[str, float]
    ) -> tuple[Seen, ...]:
        """Return what was seen, this round included."""
        drafted = survival.heights(outcome.tree).tolist()
        rows = zip(memory, outcome.accepted, drafted, strict=True)
        return tuple(self._after(*row) for row in rows)

    def keep(self, memory: tuple[Seen, ...], rows: Sequence[int]) -> tuple[Seen, ...]:
        """Return what was seen of some rows."""
        return tuple(memory[row] for row in rows)

    def _rate(self, rows: int, nodes: int) -> float:
        """Return evaluations per second of a batch with so many drafts in all."""
        share = 1 + self.breadth * nodes / max(rows, 1)
        levels = nodes / max(rows, 1)
        seconds = self.cost.target(share, batch=rows) + self.cost.overhead
        return 1 / (seconds + levels * self.cost.draft)

    def _after(self, row: Seen, accepted: int, drafted: int) -> Seen:
        if drafted == 0:
            return row._replace(idle=row.idle + 1)
        tries, passed = list(row.tries), list(row.passed)
        for j in range(min(drafted, accepted + 1, self.depth)):
            tries[j] = self.fade * tries[j] + 1
            passed[j] = self.fade * passed[j] + (accepted > j)
        return Seen(tuple(tries), tuple(passed), 0)


def best_depth(chances: Sequence[float], seconds: Callable[[int], float]) -> int:
    """Return the depth with most expected tokens per second, the smallest such.

    Args:
        chances: a_1, a_2, ...: that the first so many drafts pass.
        seconds: Of a round of some depth.
    """
    best, rate, tokens = 0, 1 / seconds(0), 1.0
    for depth, chance in enumerate(chances, start=1):
        tokens += chance
        if tokens / seconds(depth) > rate:
            best, rate = depth, tokens / seconds(depth)
    return best


def admitted(chances: Sequence[Sequence[float]], rate: Callable[[int], float]) -> list[int]:
    """Return how many drafts each request may have verified.

    Drafts are walked through in descending chance; the walk ends at the first that does not raise
    tokens per second. To stop there, and not to look on for a better end, is what keeps a draft's
    admission from depending on what is only known once it is drawn.

    Args:
        chances: For each request, that its first so many drafts pass; falling.
        rate: Evaluations per second with so many drafts in all.
    """
    depths = [0] * len(chances)
    heap = [(-one[0], row) for row, one in enumerate(chances) if one]
    heapq.heapify(heap)
    tokens, count = float(len(chances)), 0
    while heap:
        chance, row = heapq.heappop(heap)
        if (tokens - chance) * rate(count + 1) <= tokens * rate(count):
            break
        tokens, count = tokens - chance, count + 1
        depths[row] += 1
        if depths[row] < len(chances[row]):
            heapq.heappush(heap, (-chances[row][depths[row]], row))
    return depths


def _survival(row: Seen) -> list[float]:
    """Return a_1, a_2, ...; a depth that was seldom reached is taken to be as the others are."""
    overall = (sum(row.passed) + _STRENGTH * _HOPE) / (sum(row.tries) + _STRENGTH)
    chances, whole = [], 1.0
    for tries, passed in zip(row.tries, row.passed, strict=True):
        whole *= (passed + _STRENGTH * overall) / (tries + _STRENGTH)
        chances.append(whole)
    return chances
