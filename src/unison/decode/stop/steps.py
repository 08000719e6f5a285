"""A block ends after so many steps."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict


@dataclass(frozen=True)
class Steps:
    """Write the rest of a block at once, as the likeliest tokens, after a number of steps.

    Spends the steps of a longer schedule only as far as the budget goes: the greedy last step of
    masked sampling (Sahoo et al., 2024, arXiv:2406.07524), taken early.

    Attributes:
        steps: Steps for each block, the last one included.
    """

    reads: ClassVar[Reach] = "open"
    needs_eos: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    steps: int = 64

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return the rows whose block has had its steps."""
        spent = sight.block_step + 1 >= self.steps
        whole = torch.full_like(sight.due, after.tokens.shape[1])
        return Verdict(spent, torch.zeros_like(spent), whole)
