"""Only what is about to be written, what just was, and its neighbours are computed."""

from dataclasses import dataclass
from typing import ClassVar

from torch.nn import functional as F

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class DelayedGreedy:
    """dKV-Cache-Greedy (Ma et al., 2025, arXiv:2505.15781).

    Computes the positions read, those whose token was just written, and undecided neighbours of
    both; everything at the first evaluation of a block and at every ``refresh``-th. It goes with
    random orders: the surest position cannot be found among positions that are not computed.

    An approximation: like ``Delayed``, and undecided positions elsewhere learn nothing new.

    Differs: neighbours are the undecided ones up to half a window away on either side; published
    is a window filled by turns from the left and the right.

    Attributes:
        refresh: Evaluations of a block after which everything is computed again; 0 for never.
        window: Neighbours of a position, both sides together; even.
    """

    exact: ClassVar[bool] = False
    exact_under_revision: ClassVar[bool] = True
    blocks: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    refresh: int = 2
    window: int = 4

    def __post_init__(self) -> None:
        check_refresh(self.refresh)
        if self.window < 0 or self.window % 2:
            raise ValueError(f"window must be even and at least 0, got {self.window}.")

    def stale(self, now: Standing) -> Mask:
        """Return what is read or just written, and its undecided neighbours."""
        centre = now.needed | now.changed
        near = F.max_pool1d(centre.float(), self.window + 1, 1, self.window // 2) > 0
        begins = (now.since == 0)[:, None]
        return begins | now.every(self.refresh) | centre | (near & now.undecided)
