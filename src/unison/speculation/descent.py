"""Where is a verifier on its way down a tree? Row by row, without waiting for the device."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.speculation.parts import Verdict
from unison.speculation.tree import Node, Tree, committable


class Descent(NamedTuple):
    """The way so far.

    Attributes:
        path: Nodes passed, root first, -1 behind the last.
        node: The last of them.
        depth: Its depth.
        going: False for rows that have stopped.
        token: What a stopped row writes behind the path.
    """

    path: Int[Tensor, "B D"]
    node: Node
    depth: Node
    going: Bool[Tensor, " B"]
    token: Node

    @staticmethod
    def at_root(tree: Tree) -> "Descent":
        """Return the start of every row."""
        root = torch.zeros_like(tree.tokens[:, 0])
        path = root[:, None].repeat(1, tree.height + 1) - 1
        path[:, 0] = 0
        return Descent(path, root, root, root == 0, root)

    def down(self, node: Node, passed: Bool[Tensor, " B"], level: int) -> "Descent":
        """Return the way after rows went down to a child of the ``level``-th node of their path.

        Args:
            node: The child of each row.
            passed: Which rows go down.
            level: Depth of the node left.
        """
        if level + 1 < self.path.shape[1]:
            path = self.path.clone()
            path[:, level + 1] = torch.where(passed, node, path[:, level + 1])
        else:
            path = self.path
        return self._replace(
            path=path,
            node=torch.where(passed, node, self.node),
            depth=torch.where(passed, self.depth + 1, self.depth),
        )

    def stopped(self, token: Node, stops: Bool[Tensor, " B"]) -> "Descent":
        """Return the way after some of the rows that were going stopped with a token."""
        stops = stops & self.going
        return self._replace(going=self.going & ~stops, token=torch.where(stops, token, self.token))


def leaf(tree: Tree, node: Node) -> Bool[Tensor, " B"]:
    """Return whether a node has no child that could be written."""
    return ~((tree.parent == node[:, None]) & committable(tree)).any(1)


def verdict(tree: Tree, way: Descent) -> Verdict:
    """Return the verdict of a way that has stopped everywhere."""
    return Verdict(way.path, way.depth, way.token, leaf(tree, way.node))
