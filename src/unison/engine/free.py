"""What is finished is never computed again."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class Free:
    """FreeCache of FlashDLM (Hu et al., 2025, arXiv:2505.21467).

    Everything is computed at the first evaluation; then the active block and all after it. The
    prompt keeps its keys and values to the end.

    An approximation: finished text never learns what comes after it, nor the noise level of
    networks that read one. With ``settle``, exact where attention keeps it from knowing.

    Differs: the authors' code keeps a finished block as its last evaluation computed it, when
    the tokens which that evaluation wrote were still undecided; nothing after the block ever
    sees them. ``settle`` computes the block once more, with its text; False is their way.

    Attributes:
        refresh: Evaluations of a block after which everything is computed again; 0 for never.
        settle: Compute a finished block once more, at the first evaluation of the next.
    """

    exact: ClassVar[bool] = False
    exact_under_revision: ClassVar[bool] = False
    blocks: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    refresh: int = 0
    settle: bool = True

    def __post_init__(self) -> None:
        check_refresh(self.refresh)

    def stale(self, now: Standing) -> Mask:
        """Return the active block and what follows; everything at the first evaluation."""
        first = now.block[:, 0]
        if self.settle:
            finished = torch.minimum(first, now.was[:, 0])
            first = torch.where(now.since == 0, finished, first)
        begins = (now.calls == 0)[:, None]
        return begins | now.every(self.refresh) | now.between(first)
