"""What was guessed? A tree of tokens after the last written one, and how each came to be there."""

from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Node = Int[Tensor, " B"]
Nodes = Int[Tensor, "B F"]


class How(IntEnum):
    """How a node was chosen: what a verifier must know to keep the target's law.

    A parent's children are all of one kind, but for ``LAST``.
    """

    FIXED = 0  # without randomness: of the likeliest, copied, or the root itself
    IID = 1  # drawn from the parent's law, its siblings independently of it
    WITHOUT = 2  # drawn from the parent's law without its siblings of lower rank
    LAST = 3  # drawn from the parent's law without its FIXED siblings, which have lower ranks
    PROBE = 4  # no token of the text: read for what it lets the drafter see, never written


class Tree(NamedTuple):
    """Drafts of a batch, padded to one number of nodes; node 0 is the last written token.

    Attributes:
        tokens: Token at each node; -1 - j at probe number j.
        parent: Number of the node before, smaller than the node's own; -1 at the root.
        depth: Distance from the root. A node stands at place ``length + depth`` of the text.
        rank: Order in which siblings are tested, from 0.
        how: How the node was chosen, a ``How``.
        logq: Log-probability of the token given its parent, as the drafter thinks of it; 0 at
            the root and where it does not say.
        confidence: The drafter's estimate, made before the token was drawn, that the node is
            accepted if its parent is; 1 at the root and where it does not say.
        live: False at padding.
        laws: Log-probabilities that children were drawn from, float32 or float64, of R parents.
        law: Row of ``laws`` for the children of each node; -1 where there is none.
        width: The largest number of siblings, any row's.
        height: The largest depth of a token, any row's.
        judged: Estimates, made after the token was drawn, that the node is accepted if its
            parent is, 1 where there is none yet; ``None`` of drafters that judge nothing. They
            may decide what follows the node, never whether it stays.
        asked: Number of each node in the tree that the drafter was asked about, -1 where it was
            never asked; ``None`` where the numbers are the same.
    """

    tokens: Int[Tensor, "B N"]
    parent: Int[Tensor, "B N"]
    depth: Int[Tensor, "B N"]
    rank: Int[Tensor, "B N"]
    how: Int[Tensor, "B N"]
    logq: Float[Tensor, "B N"]
    confidence: Float[Tensor, "B N"]
    live: Bool[Tensor, "B N"]
    laws: Float[Tensor, "B R V"]
    law: Int[Tensor, "B N"]
    width: int = 0
    height: int = 0
    judged: Float[Tensor, "B N"] | None = None
    asked: Int[Tensor, "B N"] | None = None

    @property
    def straight(self) -> bool:
        """Whether no row branches, so that the first nodes of a tree are a text."""
        return self.width <= 1


class Level(NamedTuple):
    """Nodes to add, F for each row.

    Attributes:
        tokens: The tokens.
        parent: Nodes they follow.
        rank: Order among siblings.
        how: How they were chosen.
        logq: Log-probability given the parent.
        confidence: The drafter's estimate that it is accepted if its parent is.
        live: False where a row has fewer.
    """

    tokens: Nodes
    parent: Nodes
    rank: Nodes
    how: Nodes
    logq: Float[Tensor, "B F"]
    confidence: Float[Tensor, "B F"]
    live: Bool[Tensor, "B F"]


def planted(root: Node, vocab_size: int, dtype: torch.dtype = torch.float32) -> Tree:
    """Return trees of a root alone.

    Args:
        root: The last written token of each row.
        vocab_size: V, of the laws to come.
        dtype: Of the laws to come.
    """
    tokens = root[:, None]
    zero = torch.zeros_like(tokens)
    real = torch.zeros(tokens.shape, device=root.device)
    none = torch.zeros((len(root), 0, vocab_size), dtype=dtype, device=root.device)
    return Tree(tokens, zero - 1, zero, zero, zero, real, real + 1, zero == 0, none, zero - 1, 0, 0)


def grown(tree: Tree, level: Level, depth: Nodes | None = None) -> Tree:
    """Return the trees with more nodes, which come last; a live node's parent must be live.

    Args:
        tree: The trees.
        level: The nodes.
        depth: Of each, where some of their parents are among them.
    """
    if depth is None:
        depth = tree.depth.gather(1, level.parent) + 1
    none = torch.full_like(level.tokens, -1)
    parts = (
        level.tokens,
        level.parent,
        depth,
        level.rank,
        level.how,
        level.logq.float(),
        level.confidence.float(),
        level.live,
    )
    joined = [torch.cat([old, new], dim=1) for old, new in zip(tree[:8], parts, strict=True)]
    law = torch.cat([tree.law, none], dim=1)
    judged = tree.judged
    if judged is not None:
        judged = torch.cat([judged, torch.ones_like(level.logq, dtype=judged.dtype)], dim=1)
    asked = None if tree.asked is None else torch.cat([tree.asked, none], dim=1)
    return Tree(*joined, tree.laws, law, tree.width, tree.height, judged, asked)  # pyright: ignore


def told(tree: Tree, frontier: Nodes, laws: Float[Tensor, "B F V"]) -> Tree:
    """Return the trees with the laws that children of some nodes are drawn from.

    Args:
        tree: The trees.
        frontier: The nodes; the same node may be named twice and then keeps either number.
        laws: Log-probabilities.
    """
    first = tree.laws.shape[1]
    number = torch.arange(first, first + frontier.shape[1], device=frontier.device)
    law = tree.law.scatter(1, frontier, number.expand_as(frontier))
    known = tree.laws.to(laws.dtype)
    return tree._replace(laws=torch.cat([known, laws], dim=1), law=law)


def judged(tree: Tree, nodes: Nodes, chance: Float[Tensor, "B F"]) -> Tree:
    """Return the trees with what the drafter thinks of some nodes, now that they are drawn."""
    known = torch.ones_like(tree.confidence) if tree.judged is None else tree.judged
    return tree._replace(judged=known.scatter(1, nodes, chance.to(known.dtype)))


def pruned(tree: Tree, keep: Bool[Tensor, "B N"], most: int) -> Tree:
    """Return the trees without some nodes; the others are numbered anew, in the same order.

    Args:
        tree: The trees.
        keep: Live nodes to keep, with all that come before them.
        most: At least the number kept in any row, the root included.
    """
    order = (~keep).long().argsort(dim=1, stable=True)[:, :most]
    number = keep.long().cumsum(1) - 1
    live = keep.gather(1, order)
    parent = tree.parent.gather(1, order)
    parent = torch.where(live & (parent >= 0), number.gather(1, parent.clamp(min=0)), 0)
    parent[:, 0] = -1
    same = ("tokens", "depth", "rank", "how", "logq", "confidence", "law")
    left = {name: getattr(tree, name).gather(1, order) for name in same}
    later = None if tree.judged is None else tree.judged.gather(1, order)
    asked = order if tree.asked is None else tree.asked.gather(1, order)
    return tree._replace(parent=parent, live=live, judged=later, asked=asked, **left)


def as_asked(tree: Tree, path: Int[Tensor, "B D"]) -> Int[Tensor, "B D"]:
    """Return a path in the numbers of the tree that the drafter was asked about.

    It ends, as -1, with the first node that the drafter was never asked about.
    """
    if tree.asked is None:
        return path
    number = torch.where(path >= 0, tree.asked.gather(1, path.clamp(min=0)), -1)
    return torch.where((number >= 0).long().cumprod(1).bool(), number, -1)


def sized(tree: Tree, width: int, height: int) -> Tree:
    """Return the trees with their width and height stated, never less than before."""
    return tree._replace(width=max(tree.width, width), height=max(tree.height, height))


def ancestors(tree: Tree) -> Bool[Tensor, "B N N"]:
    """Return whether a node (column) is another (row) or comes before it on its way."""
    count = tree.tokens.shape[1]
    sees = torch.eye(count, dtype=torch.bool, device=tree.tokens.device)
    sees = sees.expand(len(tree.tokens), -1, -1)
    known, parent = sees, tree.parent
    for _ in range(max(count - 1, 0).bit_length()):  # pointer doubling: 1, 2, 4 ... steps up
        up = parent.clamp(min=0)
        above = known.gather(1, up[..., None].expand_as(known))
        known = known | (above & (parent >= 0)[..., None])
        parent = torch.where(parent >= 0, parent.gather(1, up), parent)
    return known


def child(tree: Tree, node: Node, rank: int) -> tuple[Node, Bool[Tensor, " B"]]:
    """Return the child of some rank of one node of each row, and whether there is one."""
    fits = (tree.parent == node[:, None]) & (tree.rank == rank) & committable(tree)
    return fits.long().argmax(1), fits.any(1)


def child_with(tree: Tree, node: Node, token: Node) -> tuple[Node, Bool[Tensor, " B"]]:
    """Return the child that holds a token, the lowest such, and whether there is one."""
    fits = (tree.parent == node[:, None]) & (tree.tokens == token[:, None]) & committable(tree)
    return fits.long().argmax(1), fits.any(1)


def committable(tree: Tree) -> Bool[Tensor, "B N"]:
    """Return which nodes may be written: real ones that are no probes."""
    return tree.live & (tree.how != How.PROBE)


def nobody(live: Bool[Tensor, "B *F"]) -> bool:
    """Return whether no row needs what follows; where asking would wait for the device, False."""
    return live.device.type == "cpu" and not bool(live.any())


def law_of(tree: Tree, node: Node) -> Float[Tensor, "B V"]:
    """Return the log-probabilities a node's children were drawn from; any where there are none."""
    row = tree.law.gather(1, node[:, None]).clamp(min=0)[..., None]
    return tree.laws.gather(1, row.expand(-1, -1, tree.laws.shape[-1]))[:, 0]


def path_tokens(tree: Tree, path: Int[Tensor, "B D"]) -> Int[Tensor, "B D"]:
    """Return the tokens along a path of nodes, -1 where the path is padded."""
    return torch.where(path < 0, -1, tree.tokens.gather(1, path.clamp(min=0)))
