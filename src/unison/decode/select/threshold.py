"""Everything sure enough."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Threshold:
    """Write every position whose candidate is at least this probable, and the highest-ranked one.

    Fast-dLLM (Wu et al., 2025, arXiv:2505.22618).

    Attributes:
        threshold: The probability.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = False
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the sure positions."""
        sure = sight.open & (sight.confidence >= self.threshold)
        return sure | best(sight.open, score, torch.ones_like(sight.due))
