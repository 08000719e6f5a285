"""The same number of drafts every round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from unison.speculation.parts import Outcome, Plan
from unison.speculation.tree import Tree


@dataclass(frozen=True)
class Fixed:
    """Draft so many levels and nodes, whatever happens.

    Attributes:
        depth: Levels; 5 is common (Leviathan et al., 2023, arXiv:2211.17192, use up to 7).
        nodes: Nodes beside the root; ``None`` for what the builder takes at that depth.
    """

    foresees: ClassVar[bool] = False
    depth: int = 5
    nodes: int | None = None

    def __post_init__(self) -> None:
        if self.depth < 0 or (self.nodes is not None and self.nodes < 0):
            raise ValueError(
                f"depth and nodes must be at least 0, got {self.depth} and {self.nodes}; 0 drafts "
                "nothing."
            )

    def start(self, rows: int) -> None:
        """Return nothing: it remembers nothing."""
        del rows

    def plan(self, memory: None, most: Plan) -> Plan:
        """Return the settings, within what is allowed."""
        nodes = max(most.nodes, default=0) if self.nodes is None else self.nodes
        return Plan(
            tuple(min(self.depth, depth) for depth in most.depth),
            tuple(min(nodes, one) for one in most.nodes),
        )

    def go_on(self, memory: None, tree: Tree) -> Bool[Tensor, " B"]:
        """Return True."""
        return torch.ones_like(tree.live[:, 0])

    def learn(self, memory: None, outcome: Outcome, seconds: Mapping[str, float]) -> None:
        """Return nothing."""

    def keep(self, memory: None, rows: Sequence[int]) -> None:
        """Return nothing."""
