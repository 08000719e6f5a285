"""Any position goes first."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.sight import SITE_ORDER, Score, Sight
from unison.prob import rng


@dataclass(frozen=True)
class Random:
    """Rank at random, anew in every step: all orders are equally likely.

    LLaDA's ``random`` remasking (Nie et al., 2025, arXiv:2502.09992).
    """

    probability: ClassVar[bool] = False

    def score(self, sight: Sight) -> Score:
        """Return a uniform number for each position, the same whatever else is looked at."""
        return rng.uniform_at(sight.key, SITE_ORDER, sight.positions)
