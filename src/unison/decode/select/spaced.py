"""Another selection, kept apart."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from unison.decode.select.best import ranks
from unison.decode.select.threshold import Threshold
from unison.decode.sight import Chosen, Reach, Score, Select, Sight


@dataclass(frozen=True)
class Spaced:
    """Walk what another part chose, best first, and leave out what is too near to the accepted.

    The spacing filter of dilated unmasking (Luxembourg et al., 2025, arXiv:2506.19037): two
    positions written in one step are at least max(2, floor(m gap / n)) apart where m of the
    block's n positions are open.

    Attributes:
        select: What chooses; one that follows a number of steps would fall behind.
        gap: Distance in an empty block.
    """

    reads: ClassVar[Reach] = "block"
    paced: ClassVar[bool] = False
    select: Select = field(default_factory=Threshold)
    gap: int = 8

    def __post_init__(self) -> None:
        if self.gap < 1:
            raise ValueError(f"gap must be at least 1, got {self.gap}.")
        if self.select.paced:
            raise ValueError(
                f"select must be one that follows the model, such as threshold, got "
                f"{type(self.select).__name__}, which writes what is due."
            )

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return what is accepted."""
        wished = self.select.choose(sight, score)
        apart = (sight.open.sum(1) * self.gap // sight.size.clamp(min=1)).clamp(min=2)[:, None]
        walk = ranks(wished, score).argsort(dim=1)
        accepted, free = torch.zeros_like(wished), wished
        for place in walk.unbind(1):
            here = place[:, None]
            taken = free.gather(1, here)
            distance = (sight.positions - sight.positions.gather(1, here)).abs()
            free = free & ~(taken & (distance < apart))
            accepted = accepted.scatter(1, here, taken)
        return accepted
