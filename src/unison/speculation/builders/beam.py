"""Continuations drawn without replacement as wholes: a stochastic beam."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation import growth
from unison.speculation.choosing import Chooser
from unison.speculation.growth import Front, Sprouts
from unison.speculation.parts import Drafting, GoOn, Guess, Plan
from unison.speculation.tree import How, Level, Tree


@dataclass(frozen=True)
class Beam:
    """Draw continuations without replacement: the W first to arrive of all, level by level.

    RSD-S (Jeon et al., 2024, arXiv:2402.14160), by stochastic beam search (Kool et al., 2019,
    arXiv:1903.06059), told as a race: a continuation of probability phi arrives after an
    exponential time of that rate, a node when the first of its continuations does. Which token
    arrives next is independent of when, so that who is left out says nothing about a token.

    Attributes:
        width: W, nodes of each level.
    """

    copies: ClassVar[bool] = False
    branches: ClassVar[bool] = True
    width: int = 4

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}.")

    @property
    def draws(self) -> frozenset[How]:
        """How its nodes come about."""
        return frozenset({How.WITHOUT})

    def size(self, depth: int) -> int:
        """Return the nodes of a whole tree."""
        return self.width * depth

    def build(
        self, root: Tree, drafting: Drafting, plan: Plan, choose: Chooser, go_on: GoOn
    ) -> Tree:
        """Return the tree: all beams together."""

        def sprout(front: Front, guess: Guess) -> Sprouts:
            arrival = _arrivals(front, guess, choose)
            size = arrival.shape[-1]
            most = min(self.width, arrival.shape[1] * size)
            times, index = arrival.flatten(1).topk(most, dim=1, largest=False, sorted=True)
            column, token = index // size, index % size
            logq = guess.logq.flatten(1).gather(1, index)
            here = growth.within(times < torch.inf, front.room)
            rank = _order_among_siblings(column)
            parent = front.nodes.gather(1, column)
            how = torch.full_like(token, How.WITHOUT)
            sure = _sure(guess, column, rank)
            level = Level(token, parent, rank, how, torch.where(here, logq, 0), sure, here)
            reach = front.state[1].gather(1, column) + logq.double()
            return Sprouts(level, most, drawn=True, state=torch.stack([times, reach]))

        return growth.grow(root, drafting, plan, go_on, sprout)


def _arrivals(front: Front, guess: Guess, choose: Chooser) -> Float[Tensor, "B F V"]:
    """Return the logarithms of arrival times, infinite where nothing arrives, float64.

    A node's first child arrives with the node: times are drawn freely and moved there, which
    the race, being without memory, allows.
    """
    logq, size = guess.logq.double(), guess.logq.shape[-1]
    own, reach = front.state
    noise = [
        choose.noise(size, front.nodes[:, f], front.live[:, f]) for f in range(front.nodes.shape[1])
    ]
    free = (-torch.stack(noise, dim=1).log()).log() - (reach[..., None] + logq)
    free = torch.where(logq > -torch.inf, free, torch.inf)
    first = free.min(2, keepdim=True).values
    after = free + (-(first - free).exp()).log1p()
    moved = torch.logaddexp(own[..., None], after)
    some = front.live[..., None] & (free < torch.inf)
    return torch.where(some, moved, torch.inf)


def _order_among_siblings(column: Int[Tensor, "B W"]) -> Int[Tensor, "B W"]:
    """Return how many earlier entries of the row have the same parent."""
    same = column[:, :, None] == column[:, None, :]
    return same.long().tril(-1).sum(2)


def _sure(guess: Guess, column: Tensor, rank: Tensor) -> Float[Tensor, "B W"]:
    if guess.confidence is None:
        return torch.ones(column.shape, device=column.device)
    first = guess.confidence.gather(1, column)
    return torch.where(rank == 0, first, 1 - first)
