"""The least uncertain position goes first."""

from dataclasses import dataclass
from typing import ClassVar

from unison.decode import doubt
from unison.decode.sight import Score, Sight


@dataclass(frozen=True)
class Entropy:
    """Rank by falling entropy of the belief.

    Dream's ``entropy`` (Ye et al., 2025, arXiv:2508.15487); the entropy-bounded sampler's order
    (arXiv:2505.24857). Does not look at the drawn token.
    """

    probability: ClassVar[bool] = False

    def score(self, sight: Sight) -> Score:
        """Return the negative entropies, in nats."""
        return -doubt.entropy(sight.belief)
