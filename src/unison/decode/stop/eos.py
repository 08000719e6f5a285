"""A row ends where its text does."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict
from unison.decode.stop import ends


@dataclass(frozen=True)
class Eos:
    """Cut a row behind its first end token once everything before that is written.

    As block-wise samplers of LLaDA2 do (Bie et al., 2025, arXiv:2512.15745). What is left of the
    row is filled with the end token and costs nothing. End tokens with given text behind them
    (infilling) end nothing.

    Attributes:
        eos_ids: Tokens that end the text; empty for the strategy's.
    """

    reads: ClassVar[Reach] = "open"
    needs_eos: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        ends.check(self.eos_ids)

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return where rows end."""
        eos_ids = self.eos_ids or after.eos_ids
        found = ends.is_end(after.tokens, eos_ids) & after.tail & ~after.undecided
        end, hole = ends.first(found), ends.first(after.undecided)
        length = after.tail.shape[1]
        never = torch.zeros_like(sight.due, dtype=torch.bool)
        return ends.cut_after(torch.where(end < hole, end, length), length, never, eos_ids)
