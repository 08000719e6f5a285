"""The more are written at once, the surer each must be."""

import math
from dataclasses import dataclass
from typing import ClassVar

from unison.decode.select.best import prefix, ranks
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Factor:
    """Write the r-th ranked position as long as its candidate's probability is >= 1 - f / (r + 1).

    The first always goes. Where all n probabilities exceed 1 - 1/(n + 1), writing them together
    gives the likeliest text of their joint law (f = 1; Theorem 1 of Fast-dLLM, Wu et al., 2025,
    arXiv:2505.22618).

    Attributes:
        factor: f; the larger, the more are written.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = False
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.factor < math.inf:
            raise ValueError(f"factor must be at least 0 and finite, got {self.factor}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions up to the first that is not sure enough for its rank."""
        rank = ranks(sight.open, score)
        return prefix(sight.open, rank, sight.confidence >= 1 - self.factor / (rank + 2))
