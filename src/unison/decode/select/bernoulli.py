"""Each position by the toss of a coin."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.select import linear
from unison.decode.select.best import first
from unison.decode.sight import SITE_SELECT, Chosen, Reach, Score, Sight
from unison.prob import rng


@dataclass(frozen=True)
class Bernoulli:
    """Write each open position with probability 1 - s/t in a step from t to s, in the last all.

    Ancestral sampling of the absorbing process (Sahoo et al., 2024, arXiv:2406.07524), Dream's
    ``origin`` (Ye et al., 2025, arXiv:2508.15487), with times evenly spaced from 1 to ``eps``.

    Differs: a row whose coins all say no writes its highest-ranked position, so that no evaluation
    is for nothing.

    Attributes:
        eps: Where the times end.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = True
    eps: float = 1e-3

    def __post_init__(self) -> None:
        linear.check(self.eps)

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions whose coin says yes."""
        u = rng.uniform_at(sight.key, SITE_SELECT, sight.positions)
        heads = sight.open & (u < linear.share(sight, self.eps)[:, None])
        return heads | (first(sight.open, score) & ~heads.any(1, keepdim=True))
