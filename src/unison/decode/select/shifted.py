"""More at first, or more at last."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Shifted:
    """Leave floor(n s(t)) of a block's n positions open at time t = 1 - step/steps.

        s(t) = shift t / (1 + (shift - 1) t)

    LaViDa (Li et al., 2025, arXiv:2505.16839): below 1, more is written in early steps; above 1,
    in late ones. Every step writes at least one position.

    Attributes:
        shift: 1 for equal steps.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = True
    shift: float = 1 / 3

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be above 0 and finite, got {self.shift}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions due."""
        count = sight.open.sum(1) - self._open_after(sight)
        return best(sight.open, score, count.clamp(min=1))

    def _open_after(self, sight: Sight) -> Int[Tensor, " B"]:
        """Return how many positions the step should leave open."""
        steps = torch.minimum(sight.left + sight.block_step, sight.size)
        left = (steps - sight.block_step - 1).clamp(min=0)
        # n s(left / steps), with one division so that whole numbers stay whole.
        whole, part = steps.double(), left.double()
        aim = (sight.size * part * self.shift / (whole + (self.shift - 1) * part)).floor().long()
        # One position for each step ahead; ``choose`` sees to one for this step.
        return torch.maximum(aim, left)
