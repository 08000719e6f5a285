"""Where is a verifier on its way down a tree? Row by row, without waiting for the device.

Drafts drawn independently may repeat each other: then several nodes hold one text. A way leads to
all of them at once, and goes on among the children of all. That keeps the law: given the tokens of
a level, what was drawn below them depends neither on the target nor on which of them were accepted.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.speculation.parts import Verdict
from unison.speculation.tree import Node, Tree, committable, nobody


class Descent(NamedTuple):
    """The way so far.

    Attributes:
        at: The nodes that hold it: all of one text.
        node: The first of them.
        depth: Their depth.
        going: False for rows that have stopped.
        token: What a stopped row writes behind the way.
    """

    at: Bool[Tensor, "B N"]
    node: Node
    depth: Node
    going: Bool[Tensor, " B"]
    token: Node

    @staticmethod
    def at_root(tree: Tree) -> "Descent":
        """Return the start of every row."""
        root = torch.zeros_like(tree.tokens[:, 0])
        at = torch.zeros_like(tree.live)
        at[:, 0] = True
        return Descent(at, root, root, root == 0, root)

    def down(self, tree: Tree, token: Node, passed: Bool[Tensor, " B"]) -> "Descent":
        """Return the way after rows went down to the children that hold a token, if there are any.

        Args:
            tree: The trees.
            token: The token of each row.
            passed: Which rows go down.
        """
        below = _below(self, tree) & (tree.tokens == token[:, None])
        passed = passed & below.any(1)
        return self._replace(
            at=torch.where(passed[:, None], below, self.at),
            node=torch.where(passed, below.long().argmax(1), self.node),
            depth=torch.where(passed, self.depth + 1, self.depth),
        )

    def where(self, other_at: Bool[Tensor, " B"], other: "Descent") -> "Descent":
        """Return the way with that of some rows replaced by another."""
        at = torch.where(other_at[:, None], other.at, self.at)
        rest = [
            torch.where(other_at, new, old) for new, old in zip(other[1:], self[1:], strict=True)
        ]
        return Descent(at, *rest)

    def stopped(self, token: Node, stops: Bool[Tensor, " B"]) -> "Descent":
        """Return the way after some of the rows that were going stopped with a token."""
        stops = stops & self.going
        return self._replace(going=self.going & ~stops, token=torch.where(stops, token, self.token))


class Children(NamedTuple):
    """What comes next on a way, in the order in which it is to be tested.

    Attributes:
        node: The nodes, no more than the tree is wide: drafts that repeat each other may have
            more children together, of which those of the highest ranks are passed over.
        there: Which of them there are; those of a row come first.
        token: Their tokens; 0 where there is none.
        how: How they were chosen.
    """

    node: Int[Tensor, "B K"]
    there: Bool[Tensor, "B K"]
    token: Int[Tensor, "B K"]
    how: Int[Tensor, "B K"]


def children(tree: Tree, way: Descent) -> Children:
    """Return the children of the nodes a way has come to, by rank; none of stopped rows."""
    below = _below(way, tree)
    count = tree.tokens.shape[1]
    number = torch.arange(count, device=below.device)
    order = torch.where(below, tree.rank * count + number, count * count)
    node = order.argsort(1)[:, : tree.width]
    there = below.gather(1, node) & way.going[:, None]
    token = torch.where(there, tree.tokens.gather(1, node), 0)
    return Children(node, there, token, tree.how.gather(1, node))


def child_with(tree: Tree, way: Descent, token: Node) -> Bool[Tensor, " B"]:
    """Return whether a way goes on with a token."""
    return (_below(way, tree) & (tree.tokens == token[:, None])).any(1)


def leaf(tree: Tree, way: Descent) -> Bool[Tensor, " B"]:
    """Return whether no node a way has come to has a child that could be written."""
    return ~_below(way, tree).any(1)


def walked(tree: Tree, level: Callable[[Descent], Descent]) -> Verdict:
    """Return the verdict of going down level by level until every row has stopped.

    Args:
        tree: The drafts.
        level: Returns the way after the children at its end were judged.
    """
    way = Descent.at_root(tree)
    for _ in range(tree.height + 1):
        if nobody(way.going):
            break
        way = level(way)
    return verdict(tree, way)


def verdict(tree: Tree, way: Descent) -> Verdict:
    """Return the verdict of a way that has stopped everywhere."""
    return Verdict(path_to(tree, way.node), way.depth, way.token, leaf(tree, way))


def path_to(tree: Tree, node: Node) -> Int[Tensor, "B D"]:
    """Return the nodes from the root to one of each row, -1 behind it; [batch, height + 1]."""
    path = torch.full_like(tree.tokens[:, :1], -1).repeat(1, tree.height + 1)
    for _ in range(tree.height + 1):  # the root is written again and again once it is reached
        path = path.scatter(1, tree.depth.gather(1, node[:, None]), node[:, None])
        node = tree.parent.gather(1, node[:, None])[:, 0].clamp(min=0)
    return path


def _below(way: Descent, tree: Tree) -> Bool[Tensor, "B N"]:
    comes = way.at.gather(1, tree.parent.clamp(min=0)) & (tree.parent >= 0)
    return comes & committable(tree)
