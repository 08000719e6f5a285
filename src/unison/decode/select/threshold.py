"""Everything sure enough."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.select.best import best, first
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Threshold:
    """Write every position whose candidate is at least this probable, and the highest-ranked one.

    Fast-dLLM (Wu et al., 2025, arXiv:2505.22618). At most min(max(share n, floor), ceiling) of the
    n open positions: WINO's draft, with 0.7, 5 and 20 (Hong et al., 2025, arXiv:2507.18578).

    Attributes:
        threshold: The probability.
        share: Largest share of the open positions to write, rounded down.
        floor: What the share may allow at least.
        ceiling: What it may allow at most; ``None`` for any number.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = False
    threshold: float = 0.9
    share: float = 1.0
    floor: int = 1
    ceiling: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}.")
        for name, value in (("floor", self.floor), ("ceiling", self.ceiling)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the sure positions."""
        sure = sight.open & (sight.confidence >= self.threshold)
        sure = sure | first(sight.open, score)
        if self.share == 1 and self.ceiling is None:
            return sure
        return best(sure, score, self._cap(sight.open))

    def _cap(self, open_: Chosen) -> Int[Tensor, " B"]:
        """Return how many positions each row may write."""
        part = (open_.sum(1).double() * self.share).floor().long().clamp(min=self.floor)
        return part if self.ceiling is None else torch.clamp(part, max=self.ceiling)
