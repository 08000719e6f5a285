"""The surest token goes first."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unison.decode.sight import Score, Sight, certainty


@dataclass(frozen=True)
class Confidence:
    """Rank by the probability of the proposed token, or of the likeliest one.

    MaskGIT (Chang et al., 2022, arXiv:2202.04200); LLaDA's ``low_confidence``
    (arXiv:2502.09992). The two are the same at temperature 0. Above it, ranking by the candidate
    favours positions where a likely token was drawn, which sharpens the law of the text (Hayakawa
    et al., 2025, arXiv:2510.04525); ranking by the best does not look at the draw.

    Attributes:
        of: Whose probability: the ``candidate``'s, as published, or the ``best`` token's.
    """

    probability: ClassVar[bool] = True
    of: Literal["candidate", "best"] = "candidate"

    def __post_init__(self) -> None:
        if self.of not in ("candidate", "best"):
            raise ValueError(f"of must be candidate or best, got {self.of!r}.")

    def score(self, sight: Sight) -> Score:
        """Return the probabilities."""
        if self.of == "candidate":
            return sight.confidence
        return certainty(sight.belief, sight.belief.argmax(-1))
