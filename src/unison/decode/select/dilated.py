"""Far apart first, then what lies between."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class Dilated:
    """Write every a^k-th position of a block, then every a^(k-1)-th, ... and last all.

    Dilated unmasking (Luxembourg et al., 2025, arXiv:2506.19037): ceil(log_a n) steps for n
    positions, whatever the model says. On a first-order Markov chain with a = 2 only the first
    step departs from the joint law: later positions lie between known ones.

    Differs: strides are powers of the base, also where it does not divide the block; given
    positions are not counted; what a revision takes back is written again at the next step.

    Attributes:
        base: a.
    """

    reads: ClassVar[Reach] = "block"
    paced: ClassVar[bool] = False
    base: int = 2

    def __post_init__(self) -> None:
        if self.base < 2:
            raise ValueError(f"base must be at least 2, got {self.base}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the open positions whose turn it is."""
        turn = self._turn(sight)
        earliest = torch.where(sight.open, turn, torch.iinfo(turn.dtype).max).amin(1)
        now = torch.maximum(earliest, sight.block_step)
        return sight.open & (turn <= now[:, None])

    def _turn(self, sight: Sight) -> Int[Tensor, "B F"]:
        """Return the step, from 0, at which each position's turn comes."""
        number = sight.active.long().cumsum(1) - 1
        turn, stride = torch.zeros_like(number), 1
        # In a block of n the largest stride is the largest power of the base below n.
        while stride < number.shape[1]:
            counts = (stride < sight.size)[:, None]
            turn = turn + (counts & (number % stride != 0)).long()
            stride *= self.base
        return turn
