"""The same shape every round: likeliest, second likeliest and so on, where they have paid."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation import growth
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front, Sprouts
from unison.speculation.parts import Drafting, GoOn, Guess, Plan
from unison.speculation.tree import How, Level, Tree

Path = tuple[int, ...]


def best_paths(accuracy: Sequence[Sequence[float]], nodes: int) -> tuple[Path, ...]:
    """Return the shape that is expected to have most drafts accepted, best nodes first.

    Medusa's construction (Cai et al., 2024, arXiv:2401.10774): a node is worth the product of
    the accuracies on its way, and as no child is worth more than its parent, the best nodes by
    themselves are a tree.

    Args:
        accuracy: For each depth, how often the likeliest guess is right, the second, and so on.
        nodes: Nodes beside the root.

    Raises:
        ValueError: Something is no probability.
    """
    strange = [x for level in accuracy for x in level if not 0 <= x <= 1]
    if strange:
        raise ValueError(f"accuracies are probabilities, got {strange[0]}.")
    best: list[Path] = []
    heap: list[tuple[float, int, Path]] = [(-1.0, 0, ())]
    while heap and len(best) <= nodes:
        worth, _, path = heapq.heappop(heap)
        best.append(path)
        for rank, right in enumerate(accuracy[len(path)] if len(path) < len(accuracy) else ()):
            if right > 0:
                heapq.heappush(heap, (worth * right, len(path) + 1, (*path, rank)))
    return tuple(best[1:])


# Accuracies that fall by rank and depth as those of small heads on large models do.
_USUAL = [[0.6 * 0.9**depth * 0.35**rank for rank in range(6)] for depth in range(5)]


@dataclass(frozen=True)
class Static:
    """Give every round's tree the same shape, of likeliest tokens by rank.

    As Medusa (Cai et al., 2024, arXiv:2401.10774) and EAGLE (Li et al., 2024, arXiv:2401.15077).

    Attributes:
        paths: Nodes as ranks from the root down, each after the one before it on its way; where
            room is short, the first are kept. ``best_paths`` makes them from measured accuracies.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    paths: tuple[Path, ...] = best_paths(_USUAL, 25)

    def __post_init__(self) -> None:
        known: set[Path] = {()}
        for path in self.paths:
            if not path or path in known or path[:-1] not in known or min(path) < 0:
                raise ValueError(
                    f"paths must name every node once and after the one before it, got {path} at "
                    f"number {len(known)}; (0,), (0, 0), (1,) are three nodes."
                )
            known.add(path)

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.FIXED})

    def size(self, depth: int) -> int:
        """Return the nodes of a whole tree."""
        return sum(len(path) <= depth for path in self.paths)

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree."""
        del choose
        wanted = self._wanted(plan)

        def sprout(front: Front, guess: Guess) -> Sprouts:
            columns = self._at(front.level + 1)
            parents = {path: i for i, path in enumerate(self._asked(front.level))}
            named = torch.tensor(
                [(parents[path[:-1]], path[-1]) for path in columns], device=front.nodes.device
            )
            here = torch.tensor(
                [[path in row for path in columns] for row in wanted], device=front.nodes.device
            )
            level = _ranked(front, guess, named, here)
            inner = set(self._asked(front.level + 1))
            onward = tuple(i for i, path in enumerate(columns) if path in inner)
            width = 1 + max(path[-1] for path in columns)
            return Sprouts(level, width, drawn=False, onward=onward)

        if not self.paths:
            return root
        return growth.grow(root, drafting, plan, go_on, sprout)

    def _at(self, depth: int) -> list[Path]:
        return [path for path in self.paths if len(path) == depth]

    def _asked(self, depth: int) -> list[Path]:
        """Return the nodes of a depth that have children, in the order of the front."""
        inner = {path[:-1] for path in self.paths}
        return [path for path in ([()] if depth == 0 else self._at(depth)) if path in inner]

    def _wanted(self, plan: Plan) -> list[set[Path]]:
        return [
            set([path for path in self.paths if len(path) <= depth][:nodes])
            for depth, nodes in zip(*plan, strict=True)
        ]


def _ranked(front: Front, guess: Guess, named: Tensor, here: Bool[Tensor, "B C"]) -> Level:
    """Return children by column of the front and rank.

    Args:
        front: The parents.
        guess: What comes after them.
        named: Column and rank of each child.
        here: Which rows have it.
    """
    column, rank = named.unbind(1)
    size = guess.logq.shape[-1]
    ranked = guess.logq.topk(min(int(rank.max()) + 1, size), dim=-1).indices  # int: on the host
    token = ranked[:, column, rank.clamp(max=size - 1)]
    logq = guess.logq[:, column].gather(2, token[..., None])[..., 0]
    live = here & front.live[:, column] & (rank < size) & (logq > -torch.inf)
    if guess.confidence is None:
        sure = torch.ones_like(logq)
    else:
        sure = torch.where(rank == 0, guess.confidence[:, column], 1 - guess.confidence[:, column])
    return Level(
        token,
        front.nodes[:, column],
        rank.expand_as(token),
        torch.full_like(token, How.FIXED),
        torch.where(live, logq, 0.0),
        sure,
        live,
    )
