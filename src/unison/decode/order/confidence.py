"""The surest candidate goes first."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode.sight import Score, Sight


@dataclass(frozen=True)
class Confidence:
    """Rank by the probability of the proposed token.

    MaskGIT (Chang et al., 2022, arXiv:2202.04200); LLaDA's ``low_confidence``
    (arXiv:2502.09992).
    """

    probability: ClassVar[bool] = True

    def score(self, sight: Sight) -> Score:
        """Return the candidates' probabilities."""
        return sight.confidence
