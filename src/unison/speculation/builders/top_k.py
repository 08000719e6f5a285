"""The most probable nodes of all that were looked at."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unison.speculation import growth
from unison.speculation import tree as trees
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front
from unison.speculation.parts import Drafting, GoOn, Guess, Plan, rows_of
from unison.speculation.tree import How, Level, Nodes, Tree, nobody


@dataclass(frozen=True)
class TopK:
    """Look at the k likeliest children of the k likeliest nodes; keep the likeliest nodes of all.

    EAGLE-2 (Li et al., 2024, arXiv:2406.16858). A node is as likely as the drafter thinks its
    whole way is, so that none is likelier than the one before it and the best are a tree.

    Attributes:
        width: k.
        most: Nodes kept.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    width: int = 10
    most: int = 60

    def __post_init__(self) -> None:
        if self.width < 1 or self.most < 1:
            raise ValueError(
                f"width and most must be at least 1, got {self.width} and {self.most}."
            )

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.FIXED})

    def size(self, depth: int) -> int:
        """Return the nodes of a whole tree."""
        if depth < 1:
            return 0
        return min(self.most, self.width + (depth - 1) * self.width**2)

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree."""
        del choose
        plan = plan._replace(nodes=tuple(min(self.most, nodes) for nodes in plan.nodes))
        depth, room = (rows_of(one, root.tokens.device) for one in plan)
        live = root.live & (room > 0)[:, None]
        node = torch.zeros_like(root.tokens)
        zero = torch.zeros(node.shape, dtype=torch.float64, device=node.device)
        every = root._replace(asked=node)
        search = _Search(root, every, zero, node, node, live, zero)
        for level in range(max(plan.depth, default=0)):
            live = search.live & (go_on(search.asked) & (depth > level))[:, None]
            if nobody(live):
                break
            guess = drafting.guess(search.asked, search.front)
            search = self._widened(search._replace(live=live), guess, level)
        keep = _best(search.score, search.all.live, room)
        return growth.compacted(search.all, keep, plan)

    def _widened(self, search: "_Search", guess: Guess, level: int) -> "_Search":
        """Return the search with the children of its front, and the best of them for a front."""
        asked = growth.noted(search.asked, search.front, guess)
        whole = growth.noted(search.all, search.same, guess)
        tokens = guess.logq.topk(min(self.width, guess.logq.shape[-1]), dim=-1).indices
        width = tokens.shape[2]
        front = Front(search.same, search.live, search.front[:, 0], level, search.worth[None])
        live = growth.spread(search.live, width)
        new = growth.children(front, guess, tokens, How.FIXED, live)
        worth = growth.spread(search.worth, width) + new.logq.double().clamp(max=0)
        worth = torch.where(new.live, worth, -torch.inf)
        best, column = worth.topk(min(self.width, worth.shape[1]), dim=1)
        parent = growth.spread(search.front, width).gather(1, column)
        chosen = Level(*(part.gather(1, column) for part in new))._replace(parent=parent)
        same = whole.tokens.shape[1] + column
        seen = asked.tokens.shape[1] + torch.arange(column.shape[1], device=column.device)
        number = seen.expand_as(column)
        whole = trees.sized(trees.grown(whole, new), width, level + 1)
        assert whole.asked is not None
        return _Search(
            trees.sized(trees.grown(asked, chosen), width, level + 1),
            whole._replace(asked=whole.asked.scatter(1, same, number)),
            torch.cat([search.score, worth], dim=1),
            number,
            same,
            chosen.live,
            best,
        )


class _Search(NamedTuple):
    """What has been looked at.

    Attributes:
        asked: Trees of the nodes that the drafter was, or will be, asked about.
        all: Trees of every node seen.
        score: Log-probability of each node of ``all``.
        front: Nodes of ``asked`` that come next.
        same: The same nodes in ``all``.
        live: False where a row has fewer.
        worth: Log-probability of each.
    """

    asked: Tree
    all: Tree
    score: Float[Tensor, "B N"]
    front: Nodes
    same: Nodes
    live: Bool[Tensor, "B F"]
    worth: Float[Tensor, "B F"]


def _best(
    score: Float[Tensor, "B N"], live: Bool[Tensor, "B N"], room: Tensor
) -> Bool[Tensor, "B N"]:
    """Return the root and the best nodes, of equal ones the first: no node before its parent."""
    order = score.argsort(dim=1, descending=True, stable=True)
    number = torch.arange(order.shape[1], device=order.device).expand_as(order)
    place = torch.empty_like(order).scatter(1, order, number)
    return live & (place <= room[:, None])
