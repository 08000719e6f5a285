"""What is left of a law when a draft was rejected, and what was the draft drawn from? Float64."""

import torch
from jaxtyping import Float
from torch import Tensor

from unison.speculation.descent import Children, Descent
from unison.speculation.tree import How, Node, Tree, law_of

Weights = Float[Tensor, "B V"]


def guessed(tree: Tree, way: Descent) -> Weights:
    """Return the probabilities that the children on a way were drawn from.

    Nodes of one text have one law. All zero where nothing was told.
    """
    if not tree.laws.shape[1]:
        shape = (len(tree.tokens), tree.laws.shape[-1])
        return torch.zeros(shape, dtype=torch.float64, device=tree.tokens.device)
    return law_of(tree, way.node).double().exp()


def drawn_from(below: Children, number: int, q: Weights) -> Weights:
    """Return the probabilities a child was drawn from, given its siblings of lower rank.

    Args:
        below: The children.
        number: Of the child, in their order.
        q: Probabilities of the parent's law.
    """
    how, token = below.how[:, number, None], below.token[:, number, None]
    before = (
        torch.zeros_like(q).scatter_add(1, below.token[:, :number], _ones(below, number, q)) > 0
    )
    rest = torch.where(before, 0.0, q)
    rest = rest / rest.sum(1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
    sure = torch.zeros_like(q).scatter(1, token, 1.0)
    alone = (how == How.WITHOUT) | (how == How.LAST)
    return torch.where(how == How.FIXED, sure, torch.where(alone, rest, q))


def _ones(below: Children, number: int, q: Weights) -> Float[Tensor, "B K"]:
    return below.there[:, :number].to(q.dtype)


def left_over(r: Weights, d: Weights) -> Weights:
    """Return norm(max(r - d, 0)); r where nothing is left.

    Nothing is left only where r = d, whose drafts never fail.
    """
    left = (r - d).clamp(min=0)
    total = left.sum(1, keepdim=True)
    return torch.where(total > 0, left / total.clamp(min=torch.finfo(r.dtype).tiny), r)


def chance(r: Weights, d: Weights, token: Node) -> Float[Tensor, " B"]:
    """Return min(1, r(x) / d(x)) at a token; 1 where d(x) = 0, which is never drawn."""
    up, low = (law.gather(1, token[:, None])[:, 0] for law in (r, d))
    return torch.where(low > up, up / low.clamp(min=torch.finfo(r.dtype).tiny), 1.0)
