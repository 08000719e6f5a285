"""A block ends when the model's mind no longer changes."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode import doubt
from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict
from unison.decode.stop import ends


@dataclass(frozen=True)
class Stable:
    """Write a block at once when its likeliest text is the same again, and nearly certain.

    The stopping rule of DiffusionGemma (transformers' ``DiffusionGemmaForBlockDiffusion``) beside
    the entropy-bounded choice of Ben-Hamu et al. (2025, arXiv:2505.24857): the likeliest token of
    every position of the block was the same in ``patience`` steps before, and the mean entropy
    over the block is below ``entropy``. Where end tokens are known, a finished block that holds
    one ends the text.

    Attributes:
        patience: Steps before this one with the same likeliest text; 0 asks the entropy alone.
        entropy: Nats per position.
        eos_ids: Tokens that end the text; empty for the strategy's, and for none if it has none.
    """

    reads: ClassVar[Reach] = "block"
    needs_eos: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    patience: int = 1
    entropy: float = 0.005
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}.")
        if not self.entropy >= 0:
            raise ValueError(f"entropy must be at least 0, got {self.entropy}.")
        ends.check(self.eos_ids)

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return the rows whose block is settled, cut where it ended the text."""
        h = doubt.entropy(sight.belief)
        active = sight.active.sum(1).clamp(min=1)
        mean = torch.where(sight.active, h, 0.0).sum(1) / active
        settled = (past.calm >= self.patience) & (mean < self.entropy)
        eos_ids = self.eos_ids or after.eos_ids
        over = settled | (sight.left <= 1)
        inside = torch.zeros_like(after.tail).scatter_add(1, sight.positions, sight.active)
        found = ends.is_end(after.finished, eos_ids) & inside & after.tail & over[:, None]
        return ends.cut_after(ends.first(found), after.tail.shape[1], settled, eos_ids)
