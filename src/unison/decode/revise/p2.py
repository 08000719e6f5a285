"""Written and masked positions compete at every step for which of them may hold a token."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Past, Reach, Revision, Score, Sight, certainty
from unison.process import Absorbing


@dataclass(frozen=True)
class P2:
    r"""Mask the least sure of all positions of the block (path planning, arXiv:2502.03540).

    Peng et al., 2025, with the denoiser itself as planner. After step i of T, floor(N (1 - (i + 1)
    / T)) of the block's N positions are masks: those of the lowest score

        log p(candidate)            at a mask,
        eta log p(standing token)   at a written token.

    A mask that stays unmasked takes its candidate, a written token stays as it is. The number is
    exact, whatever T divides.

    Attributes:
        eta: Weight on written tokens: 0 never masks them again (MaskGIT), larger ones do so more
            readily.
    """

    reads: ClassVar[Reach] = "block"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise ValueError(f"eta must be at least 0 and finite, got {self.eta}.")

    def extra(self, length: int) -> int:
        """Return 0."""
        return 0

    def write(
        self,
        process: Absorbing,
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the surest positions, written or not, among masks."""
        steps = sight.block_step + sight.left
        masked = sight.size * (sight.left - 1) // steps
        kept = best(sight.active, self._score(sight), sight.size - masked)
        tokens = torch.where(kept & sight.open, sight.candidate, sight.current)
        tokens = torch.where(sight.active & ~kept, process.mask_id, tokens)
        return Revision(tokens, torch.zeros_like(sight.due, dtype=torch.bool))

    def _score(self, sight: Sight) -> Score:
        if self.eta == 0:
            standing = torch.full_like(sight.confidence, torch.inf)
        else:
            standing = self.eta * certainty(sight.belief, sight.current).log()
        return torch.where(sight.open, sight.confidence.log(), standing)
