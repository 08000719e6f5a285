"""What is thought of the next few places, whatever is written at the places between?"""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation.parts import Guess, Outcome
from unison.speculation.tree import Node, Nodes, Tree


class Ahead(NamedTuple):
    """One law for each place after the root, of drafters that guess places side by side.

    Attributes:
        logq: Log-probabilities of the token at each depth from 1, normalised.
        reach: Depths of each row that there is a law for; the laws beyond are anything.
    """

    logq: Float[Tensor, "B K V"]
    reach: Node

    @staticmethod
    def of(logits: Float[Tensor, "B K V"], reach: Node) -> "Ahead":
        """Return the laws that logits amount to."""
        return Ahead(logits.float().log_softmax(-1), reach)

    @staticmethod
    def unknown(rows: int, depth: int, vocab_size: int, device: torch.device) -> "Ahead":
        """Return what is thought before anything was seen: nothing, at any depth."""
        level = torch.full((1, 1, 1), -math.log(vocab_size), device=device)
        reach = torch.zeros(rows, dtype=torch.int64, device=device)
        return Ahead(level.expand(rows, depth, vocab_size), reach)

    def guess(self, tree: Tree, frontier: Nodes) -> Guess:
        """Return the laws after nodes of a tree, by their depth alone.

        Beyond its reach a row has the law that says nothing: every token is as likely.
        """
        depth = tree.depth.gather(1, frontier)
        _, most, vocab_size = self.logq.shape
        at = depth.clamp(max=most - 1)[..., None].expand(-1, -1, vocab_size)
        known = (depth < self.reach[:, None])[..., None]
        logq = torch.where(known, self.logq.gather(1, at), -math.log(vocab_size))
        return Guess(logq, logq.amax(-1).exp())

    def keep(self, rows: Int[Tensor, " R"]) -> "Ahead":
        """Return the laws of some rows."""
        return Ahead(self.logq[rows], self.reach[rows])


@runtime_checkable
class Positionwise(Protocol):
    """A drafting that guesses places side by side, so that a tree can be laid out at once."""

    ahead: Ahead


def last_node(outcome: Outcome) -> Node:
    """Return the last node of each row that was written."""
    last = (outcome.path >= 0).sum(1, keepdim=True) - 1
    return outcome.path.gather(1, last)[:, 0]
