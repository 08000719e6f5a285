"""A token is remembered one evaluation after it was written."""

from dataclasses import dataclass
from typing import ClassVar

from unison.engine.policy import Standing, check_refresh
from unison.types import Mask


@dataclass(frozen=True)
class Delayed:
    """dKV-Cache-Decode (Ma et al., 2025, arXiv:2505.15781).

    Keys and values of a position move most when its token is written and little after. So
    undecided positions are computed every time, and a written one once more, with its token,
    before it is remembered; everything is computed in the first two evaluations of each block
    and at every ``refresh``-th. Without blocks the whole canvas counts as one.

    An approximation: decided text learns of later text, and of the noise level, only when
    everything is computed. A token that changes is computed again, so text may be revised.

    Strategies that name no positions are served too: they read undecided ones only.

    Differs: models whose output at i speaks of i + 1 keep i for as long as i + 1 is read.

    Attributes:
        refresh: Evaluations of a block after which everything is computed again; 0 for never.
        freeze_prompt: Compute the prompt once and never again (dKV-Cache-PD; with ``refresh`` 1
            dKV-Cache-Prefill).
    """

    exact: ClassVar[bool] = False
    exact_under_revision: ClassVar[bool] = True
    blocks: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    refresh: int = 8
    freeze_prompt: bool = False

    def __post_init__(self) -> None:
        check_refresh(self.refresh)

    def stale(self, now: Standing) -> Mask:
        """Return undecided and just written positions; everything when that is due."""
        all_of_it = (now.since < 2)[:, None] | now.every(self.refresh)
        if self.freeze_prompt:
            all_of_it = all_of_it & ~(now.prompt & (now.calls > 0)[:, None])
        return all_of_it | now.undecided | now.changed
