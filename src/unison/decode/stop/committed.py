"""Nothing ends early."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.sight import Chosen, Past, Reach, Sight, Verdict


@dataclass(frozen=True)
class Committed:
    """Go on until every position is written."""

    reads: ClassVar[Reach] = "open"
    needs_eos: ClassVar[bool] = False

    def judge(
        self, sight: Sight, chosen: Chosen, past: Past, tokens: Int[Tensor, "B L"]
    ) -> Verdict:
        """Return that nothing may be written at once."""
        never = torch.zeros_like(sight.due, dtype=torch.bool)
        return Verdict(never, never, torch.full_like(sight.due, tokens.shape[1]))
