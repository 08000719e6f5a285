"""The likeliest children of each node, and one drawn from the rest."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation import growth
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front, Sprouts
from unison.speculation.parts import Drafting, GoOn, Guess, Plan
from unison.speculation.tree import How, Tree


@dataclass(frozen=True)
class Greedy:
    """Give a node its k - 1 likeliest children and one drawn from the other tokens.

    The greedy draft of Hu et al. (2025, arXiv:2502.18779), whose optimal acceptance has a closed
    form: p(likeliest) + sum over the rest of min(p, q of the rest).

    Attributes:
        branching: k, level by level; the last number goes on. Where it is 1, the one child is
            drawn from the whole law.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    branching: tuple[int, ...] = (4, 2, 1)

    def __post_init__(self) -> None:
        growth.checked_branching(self.branching)

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        fixed = {How.FIXED} if max(self.branching) > 1 else set()
        return frozenset({How.LAST} | fixed)

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
            likeliest = guess.logq.topk(width - 1, dim=-1).indices
            rest = guess.logq.scatter(2, likeliest, -torch.inf)
            count = front.nodes.shape[1]
            live = growth.within(growth.spread(front.live, width), front.room)
            some = (rest > -torch.inf).any(2) & live[:, -count:]
            last = _drawn(rest, front, width - 1, choose, some)
            tokens = torch.cat([likeliest, last[..., None]], dim=2)
            alive = torch.cat([live[:, :-count], some], dim=1)
            level = growth.children(front, guess, tokens, How.FIXED, alive)
            how = torch.where(level.rank == width - 1, int(How.LAST), level.how)
            return Sprouts(level._replace(how=how), width, drawn=True)

        return growth.grow(root, drafting, plan, go_on, sprout)


def _drawn(
    rest: Float[Tensor, "B F V"], front: Front, rank: int, choose: Chooser, live: Tensor
) -> Int[Tensor, "B F"]:
    """Return a token of each law; any where nothing is live."""
    safe = torch.where(live[..., None], rest, 0.0)
    drawn = [
        choose.guess(safe[:, f], front.nodes[:, f], rank, live[:, f])
        for f in range(front.nodes.shape[1])
    ]
    return torch.stack(drawn, dim=1)
