"""Different guesses at each node, drawn without replacement."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.speculation import growth
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front, Sprouts
from unison.speculation.parts import Drafting, GoOn, Guess, Plan
from unison.speculation.tree import How, Tree


@dataclass(frozen=True)
class Gumbel:
    """Draw children of a node without replacement; their ranks are the order drawn.

    RSD-C, by Gumbel top-k (Jeon et al., 2024, arXiv:2402.14160). A node whose law has fewer
    tokens than it should have children has those.

    Attributes:
        branching: Children of a node, level by level; the last number goes on.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    branching: tuple[int, ...] = (3, 2, 1)

    def __post_init__(self) -> None:
        growth.checked_branching(self.branching)

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.WITHOUT})

    def size(self, depth: int) -> int:
        """Return the nodes of a whole tree."""
        return growth.size_of(self.branching, depth)

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree."""

        def sprout(front: Front, guess: Guess) -> Sprouts:
            width = growth.branching_of(self.branching, front.level)
            width = min(width, guess.logq.shape[-1])
            live = growth.within(growth.spread(front.live, width), front.room)
            needed = live.unflatten(1, (width, -1)).any(1)
            hands = [
                choose.deal(guess.logq[:, f], width, front.nodes[:, f], needed[:, f])
                for f in range(front.nodes.shape[1])
            ]
            level = growth.children(front, guess, torch.stack(hands, dim=1), How.WITHOUT, live)
            return Sprouts(level, max(self.branching), drawn=True)

        return growth.grow(root, drafting, plan, go_on, sprout)
