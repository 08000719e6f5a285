"""Nothing is remembered that would come out differently now."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class Exact:
    """The key-value cache of networks that only look back, position by position or block by block.

    Of an autoregressive model (Pope et al., 2022, arXiv:2211.05102) the one new position is
    computed; of a block diffusion model (Arriola et al., 2025, arXiv:2503.09573) the active block,
    and the finished one once more with its text. In general: from the first position that reads
    something new, or is read, to the end of the last block that is read, or that was computed
    with what is no longer so. Beliefs are those without a cache, rounding aside, whatever a
    strategy rewrites.

    Attributes:
        refresh: Evaluations of a block after which everything is computed again; 0 for never.
    """

    exact: ClassVar[bool] = True
    exact_under_revision: ClassVar[bool] = True
    blocks: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform", "sequential")
    refresh: int = 0

    def __post_init__(self) -> None:
        check_refresh(self.refresh)

    def stale(self, now: Standing) -> Mask:
        """Return whole blocks from the first that is new or read to the last that hears of it."""
        length = now.tokens.shape[1]
        stale = now.changed | now.told
        first = (stale | now.needed).long().argmax(1) // now.unit
        last = (length - 1 - now.needed.flip(1).long().argmax(1)) // now.unit
        # What was computed is a beginning of the canvas; a change within makes all its rest stale.
        computed = now.seen >= 0
        rest = torch.where((stale & computed).any(1), computed.sum(1), 0)
        read = now.between(first * now.unit, torch.maximum((last + 1) * now.unit, rest))
        return now.every(self.refresh) | torch.where(now.needed.any(1)[:, None], read, False)
