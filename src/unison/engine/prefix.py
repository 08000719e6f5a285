"""What stands before the active block is computed once per block."""

from dataclasses import dataclass
from typing import ClassVar

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class Prefix:
    """PrefixCache of Fast-dLLM (Wu et al., 2025, arXiv:2505.22618).

    Everything is computed at a block's first evaluation; then the block and all after it.

    An approximation: what stands before the block does not learn what is written in it, nor the
    noise level of networks that read one. Exact where attention keeps it from knowing.

    Attributes:
        refresh: Evaluations of a block after which everything is computed again; 0 for never.
    """

    exact: ClassVar[bool] = False
    exact_under_revision: ClassVar[bool] = False
    blocks: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    refresh: int = 0

    def __post_init__(self) -> None:
        check_refresh(self.refresh)

    def stale(self, now: Standing) -> Mask:
        """Return the active block and what follows; everything as a block begins."""
        begins = (now.since == 0)[:, None]
        return begins | now.every(self.refresh) | now.between(now.block[:, 0])
