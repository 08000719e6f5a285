"""The whole canvas is written at once when the model knows the answer."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import After, Chosen, Past, Reach, Sight, Verdict

EARLY, LATE = 0.33, 0.67  # shares of the steps at which the threshold falls


@dataclass(frozen=True)
class Prophet:
    """Commit early (Li et al., 2025, arXiv:2508.19982).

    Every mask takes its likeliest token once the gap between the two largest logits, averaged
    over the answer region, reaches a threshold that falls from ``early`` (less than 0.33 of the
    steps spent) over ``middle`` (less than 0.67) to ``late``. Written at once, tokens no longer
    agree with each other but through what stood before: ``answer_only`` writes the region alone
    and leaves the rest to the steps that remain.

    Attributes:
        early: Nats; infinity never commits.
        middle: Nats.
        late: Nats.
        region: The answer: the last so many positions that were not given; ``None`` for all.
        answer_only: Write the region at once, nothing else; under the absorbing process alone.
    """

    reads: ClassVar[Reach] = "canvas"
    needs_eos: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    early: float = 7.5
    middle: float = 5.0
    late: float = 2.5
    region: int | None = None
    answer_only: bool = False

    def __post_init__(self) -> None:
        for name in ("early", "middle", "late"):
            if math.isnan(getattr(self, name)):
                raise ValueError(f"{name} must be a number of nats, got {getattr(self, name)}.")
        if self.region is not None and self.region < 1:
            raise ValueError(f"region must be at least 1, got {self.region}.")
        if self.answer_only and self.region is None:
            raise ValueError("answer_only=True needs a region: say how many positions it has.")

    def judge(self, sight: Sight, chosen: Chosen, past: Past, after: After) -> Verdict:
        """Return the rows whose answer is known."""
        number = torch.arange(sight.live.shape[1], device=sight.live.device)
        answer = sight.live
        if self.region is not None:
            answer = answer & (number >= sight.live.sum(1, keepdim=True) - self.region)
        gap = torch.where(answer, _gap(sight.belief), 0.0)
        mean = gap.sum(1) / answer.sum(1).clamp(min=1)
        late = torch.where(sight.progress < LATE, self.middle, self.late)
        threshold = torch.where(sight.progress < EARLY, self.early, late)
        known = (mean >= threshold) & (threshold < math.inf)
        where = torch.zeros_like(after.tail).scatter_add(1, sight.positions, answer)
        whole = torch.full_like(sight.due, after.tail.shape[1])
        never = torch.zeros_like(known)
        return Verdict(never, known, whole, region=where if self.answer_only else None)


def _gap(belief: Float[Tensor, "B F V"]) -> Float[Tensor, "B F"]:
    """Return the distance of the two largest log-probabilities; finite also where one is certain.

    It is the distance of their logits: what normalises them cancels.
    """
    pair = belief.topk(min(2, belief.shape[-1]), dim=-1).values.double()
    return (pair[..., 0] - pair[..., -1]).clamp(max=1e9)
