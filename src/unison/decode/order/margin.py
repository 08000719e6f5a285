"""The clearest choice goes first."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.doubt import lead
from unison.decode.sight import Score, Sight


@dataclass(frozen=True)
class Margin:
    """Rank by how far the likeliest token leads the next one, p1 - p2.

    Kim et al., 2025, arXiv:2502.06768; Dream's ``topk_margin`` (arXiv:2508.15487). Does not look
    at the drawn token.
    """

    probability: ClassVar[bool] = True

    def score(self, sight: Sight) -> Score:
        """Return the differences."""
        return lead(sight.belief)
