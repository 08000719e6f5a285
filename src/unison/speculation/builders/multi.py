"""Several independent guesses at each node."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.speculation import growth
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front, Sprouts
from unison.speculation.parts import Drafting, GoOn, Guess, Plan
from unison.speculation.tree import How, Tree


@dataclass(frozen=True)
class Multi:
    """Draw children of a node independently of each other.

    As SpecInfer (Miao et al., 2024, arXiv:2305.09781) and SpecTr (Sun et al., 2023,
    arXiv:2310.15141). Children may be alike and are nodes of their own all the same.

    Attributes:
        branching: Children of a node, level by level; the last number goes on. (4, 1) is four
            independent chains.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    branching: tuple[int, ...] = (4, 1)

    def __post_init__(self) -> None:
        growth.checked_branching(self.branching)

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.IID})

    def size(self, depth: int) -> int:
        """Return the nodes of a whole tree."""
        return growth.size_of(self.branching, depth)

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree."""

        def sprout(front: Front, guess: Guess) -> Sprouts:
            width = growth.branching_of(self.branching, front.level)
            live = growth.within(growth.spread(front.live, width), front.room)
            count = front.nodes.shape[1]
            drawn = [
                choose.guess(guess.logq[:, f], front.nodes[:, f], rank, live[:, rank * count + f])
                for f in range(count)
                for rank in range(width)
            ]
            tokens = torch.stack(drawn, dim=1).unflatten(1, (count, width))
            level = growth.children(front, guess, tokens, How.IID, live)
            return Sprouts(level, max(self.branching), drawn=True)

        return growth.grow(root, drafting, plan, go_on, sprout)
