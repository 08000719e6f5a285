"""How sharply is a token drawn from the belief? Temperature, its schedule, and truncation."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from unison.prob import categorical, truncation
from unison.types import Belief


@dataclass(frozen=True)
class Temper:
    """Divide the logits by a temperature that may fall over each block, then truncate.

    Attributes:
        temperature: At the first step of a block; 0 takes the likeliest token.
        final: Towards the last step, linearly in the share of steps left; ``None`` for no change.
        top_k: Keep this many tokens; ``None`` for all.
        top_p: Keep the smallest set of tokens with this mass.
    """

    temperature: float = 0.0
    final: float | None = None
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("final", self.final)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}.")
        if self.final is not None and min(self.temperature, self.final) <= 0:
            raise ValueError(
                "a temperature that changes must stay above 0, got temperature="
                f"{self.temperature} and final={self.final}."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0

    def shape(self, belief: Belief, remaining: Float[Tensor, " B"]) -> Belief:
        """Return the tempered and truncated belief.

        Args:
            belief: Log-probabilities.
            remaining: Share of its block's steps each row has left, this one included.
        """
        if self.final is not None:
            heat = self.final + (self.temperature - self.final) * remaining
            heat = heat[:, None, None].to(belief.dtype).clamp(min=truncation.COLDEST)
            belief = (belief / heat).log_softmax(-1)
        else:
            belief = truncation.temper(belief, self.temperature)
        if self.top_k is not None:
            belief = truncation.top_k(belief, self.top_k)
        return truncation.top_p(belief, self.top_p)

    def drawn(
        self, belief: Belief, remaining: Float[Tensor, " B"], u: Float[Tensor, "B F"]
    ) -> Int[Tensor, "B F"]:
        """Return tokens drawn from what ``shape`` returns, which on a GPU is not written out.

        There one program tempers, truncates and draws; not where the temperature falls or the top
        ``k`` are kept.

        Args:
            belief: Log-probabilities.
            remaining: As for ``shape``.
            u: Uniforms on (0, 1), float64.
        """
        if self.final is None and self.top_k is None:
            return categorical.sample_tempered(belief, u, self.temperature, self.top_p)
        return categorical.sample(self.shape(belief, remaining), u)
