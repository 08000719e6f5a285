"""Nothing ends early."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict


@dataclass(frozen=True)
class Committed:
    """Go on until every position is written, as MaskGIT does (arXiv:2202.04200)."""

    reads: ClassVar[Reach] = "open"
    needs_eos: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return that nothing may be written at once."""
        never = torch.zeros_like(sight.due, dtype=torch.bool)
        return Verdict(never, never, torch.full_like(sight.due, after.tokens.shape[1]))
