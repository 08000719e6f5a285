"""Everything is computed every time."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class Uncached:
    """Compute every position at every evaluation; nothing is remembered.

    Attributes:
        refresh: Makes no difference.
    """

    exact: ClassVar[bool] = True
    exact_under_revision: ClassVar[bool] = True
    blocks: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform", "sequential")
    refresh: int = 0

    def __post_init__(self) -> None:
        check_refresh(self.refresh)

    def stale(self, now: Standing) -> Mask:
        """Return True everywhere."""
        return torch.ones_like(now.undecided)
