"""Twice as many in every step."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.select.best import best
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Ascending:
    """Write 1, 2, 4, ... positions of a block of n, and in the floor(log2 n)-th step the rest.

    Ascending step size (Yang et al., 2025, arXiv:2509.23924): 1, 2, ..., 64, 129 of 256. A
    smaller number of steps ends it earlier, with a larger rest.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = True

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the positions due."""
        # size = m 2^e with m in [1/2, 1): exact, unlike a logarithm.
        doublings = torch.frexp(sight.size.double()).exponent - 1
        last = (sight.block_step >= doublings - 1) | (sight.left <= 1)
        count = 2 ** sight.block_step.clamp(max=62)
        return best(sight.open, score, torch.where(last, sight.open.sum(1), count))
