"""Everything sure enough, and less will do beside what is very sure."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.select.best import first
from unison.decode.sight import Chosen, Places, Reach, Score, Sight


@dataclass(frozen=True)
class LocalLeap:
    """A threshold that is lower near anchors, the open positions that pass it.

    LocalLeap (Kong et al., 2025, arXiv:2510.07081). The highest-ranked position always goes.

    Attributes:
        threshold: Probability that a candidate needs, and that makes it an anchor.
        relaxed: Probability that it needs near an anchor.
        radius: Distance, in positions, that counts as near.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = False
    threshold: float = 0.9
    relaxed: float = 0.75
    radius: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        if not 0 <= self.relaxed <= self.threshold:
            raise ValueError(
                f"relaxed must be in [0, threshold={self.threshold}], got {self.relaxed}."
            )
        if self.radius < 0:
            raise ValueError(f"radius must be at least 0, got {self.radius}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the sure positions, and those near them that are sure enough there."""
        anchor = sight.open & (sight.confidence >= self.threshold)
        near = _distance(sight.positions, anchor) <= self.radius
        leap = sight.open & near & (sight.confidence >= self.relaxed)
        return anchor | leap | first(sight.open, score)


def _distance(positions: Places, anchor: Chosen) -> Int[Tensor, "B F"]:
    """Return how far the nearest anchor is: of those before, and of those behind."""
    far = torch.iinfo(positions.dtype).max // 4
    before = torch.where(anchor, positions, -far).cummax(1).values
    behind = torch.where(anchor, positions, far).flip(1).cummin(1).values.flip(1)
    return torch.minimum(positions - before, behind - positions)
