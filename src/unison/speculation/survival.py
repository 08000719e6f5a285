"""How far down will a tree be accepted? Chances multiplied along ways."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.speculation.tree import Tree, ancestors


def along(tree: Tree, chance: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Return the product of what nodes have on the way from the root to each; 0 at padding."""
    total = ancestors(tree).to(chance.dtype) @ chance.clamp(min=1e-30).log()[..., None]
    return torch.where(tree.live, total[..., 0].exp(), 0.0)


def at_the_front(tree: Tree, values: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Return the largest value of each row's deepest nodes."""
    deep = torch.where(tree.live, tree.depth, -1)
    front = deep == deep.amax(1, keepdim=True)
    return torch.where(front, values, 0.0).amax(1)


def heights(tree: Tree) -> Int[Tensor, " B"]:
    """Return the depth of each row's deepest draft."""
    return torch.where(tree.live & (tree.tokens >= 0), tree.depth, 0).amax(1)
