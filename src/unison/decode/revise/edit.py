"""Written tokens are replaced where the model is sure of another."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import Chosen, Past, Reach, Revision, Sight, certainty
from unison.process import Absorbing


@dataclass(frozen=True)
class Edit:
    """Fill masks and edit tokens in the same step (LLaDA2.1, Bie et al., 2026, arXiv:2602.08676).

    A written token of the block gives way to the likeliest one where that is another and at least
    ``threshold`` probable. Once the block holds no mask, steps that edit alone follow until one
    of them changes nothing, at most ``max_post_steps``.

    Attributes:
        threshold: The probability; published as ``editing_threshold``.
        max_post_steps: Steps after the last mask of a block was written.
    """

    reads: ClassVar[Reach] = "block"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    threshold: float = 0.9
    max_post_steps: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        if self.max_post_steps < 0:
            raise ValueError(f"max_post_steps must be at least 0, got {self.max_post_steps}.")

    def extra(self, length: int) -> int:
        """Return the steps that may follow the last mask of a block."""
        return self.max_post_steps

    def write(
        self,
        process: Absorbing,
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the chosen candidates and the edited tokens."""
        likeliest = sight.belief.argmax(-1)
        sure = certainty(sight.belief, likeliest) >= self.threshold
        edited = sight.active & ~sight.open & sure & (likeliest != sight.current)
        tokens = torch.where(chosen, sight.candidate, sight.current)
        tokens = torch.where(edited, likeliest, tokens)
        full = ~(sight.open & ~chosen).any(1)
        moved = sight.open.any(1) | edited.any(1)
        return Revision(tokens, full & moved & (past.edits < self.max_post_steps))
