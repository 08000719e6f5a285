"""Written tokens that the model doubts when it does not see them are taken back."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Past, Reach, Revision, Sight, certainty
from unison.process import Absorbing


@dataclass(frozen=True)
class WINO:
    """Draft wide, verify by shadows (Hong et al., 2025, arXiv:2507.18578).

    The same evaluation that drafts judges every token of the block by a shadow: a second, masked
    input at the same place, which sees all tokens but that one. Tokens whose shadow gives them
    less than ``threshold`` are masked again, the least probable first: fewer than the step before
    wrote, and so none where it wrote one. After k steps at least k tokens stand.

    Attributes:
        threshold: The probability.
    """

    reads: ClassVar[Reach] = "block"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")

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
        """Return the chosen candidates, and masks where written tokens are doubted.

        Raises:
            ValueError: There are no shadows.
        """
        if shadow is None:
            raise ValueError("WINO needs beliefs that leave the own token out, got none.")
        said = certainty(shadow, sight.current)
        doubted = sight.active & ~sight.open & (said < self.threshold)
        most = torch.where(sight.block_step > 0, past.wrote - 1, 0)
        tokens = torch.where(chosen, sight.candidate, sight.current)
        tokens = torch.where(best(doubted, -said, most), process.mask_id, tokens)
        return Revision(tokens, torch.zeros_like(sight.due, dtype=torch.bool))
