"""A row is cut short as soon as the model sees where its text ends."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict, certainty
from unison.decode.stop import ends


@dataclass(frozen=True)
class EoTP:
    """Cut a row behind an end token, before all in front of it is written.

    End-of-text prediction (arXiv:2509.25188, section 4): behind the first end token of the active
    block that the step chose; else behind the position of the block whose likeliest token is an
    end, the most probable one. The rest of the row is filled with the end token.

    Differs: the published code cuts at any likeliest end, which is ``threshold=0``; the paper
    says once resolved. End tokens with given text behind them end nothing.

    Attributes:
        threshold: Probability from which an end that was not chosen counts.
        eos_ids: Tokens that end the text; empty for the strategy's.
    """

    reads: ClassVar[Reach] = "open"
    needs_eos: ClassVar[bool] = True
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    threshold: float = 0.9
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")
        ends.check(self.eos_ids)

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return where rows end."""
        eos_ids, length = self.eos_ids or after.eos_ids, after.tail.shape[1]
        tail = after.tail.gather(1, sight.positions) & sight.open
        sure = chosen & tail & ends.is_end(sight.candidate, eos_ids)
        resolved = torch.where(sure, sight.positions, length).amin(1)
        said = certainty(sight.belief, sight.likeliest)
        ending = ends.is_end(sight.likeliest, eos_ids)
        likely = tail & ~chosen & ending & (said >= self.threshold)
        surest = torch.where(likely, said, -1.0).argmax(1, keepdim=True)
        foreseen = torch.where(likely.any(1), sight.positions.gather(1, surest)[:, 0], length)
        position = torch.where(resolved < length, resolved, foreseen)
        never = torch.zeros_like(sight.due, dtype=torch.bool)
        return ends.cut_after(position, length, never, eos_ids)
