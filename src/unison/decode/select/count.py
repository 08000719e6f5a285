"""As many as are due."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Count:
    """Write the highest-ranked positions, the same number at every step of a block.

    What does not divide goes to the first steps (LLaDA, Nie et al., 2025, arXiv:2502.09992).
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = True

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions due."""
        return best(sight.open, score, sight.due)
