"""As many as an even time grid expects."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.select import linear
from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Dream:
    """Write floor(m (1 - s/t)) of the m open positions in a step from t to s, in the last all.

    Dream (Ye et al., 2025, arXiv:2508.15487), with times evenly spaced from 1 to ``eps``.

    Differs: each row counts its own open positions, and never writes none.

    Attributes:
        eps: Where the times end.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = True
    eps: float = 1e-3

    def __post_init__(self) -> None:
        linear.check(self.eps)

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions due."""
        count = (sight.open.sum(1) * linear.share(sight, self.eps)).floor().long()
        return best(sight.open, score, count.clamp(min=1))
