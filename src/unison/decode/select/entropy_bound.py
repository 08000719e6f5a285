"""As many as can be written together without losing more than so many nats."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode import doubt
from unison.decode.select.best import ranks
from unison.decode.sight import Chosen, Reach, Score, Sight


@dataclass(frozen=True)
class EntropyBound:
    """Write the longest run of ranked positions whose entropies, but the largest, sum to a bound.

        sum of H_l - max of H_l <= bound,  l among the written

    The left side is at least their total correlation, the divergence that drawing them
    independently costs (Ben-Hamu et al., 2025, arXiv:2505.24857). Ranked by falling entropy
    (``Entropy``) this is the sum over the earlier ones, DiffusionGemma's acceptance rule.

    Attributes:
        bound: Nats; 0 writes one uncertain token per step, infinity all at once.
    """

    reads: ClassVar[Reach] = "open"
    paced: ClassVar[bool] = False
    bound: float = 0.1

    def __post_init__(self) -> None:
        if not self.bound >= 0:
            raise ValueError(f"bound must be at least 0 nats, got {self.bound}.")

    def choose(self, sight: Sight, score: Score) -> Chosen:
        """Return the run of positions."""
        rank = ranks(sight.open, score)
        at = rank.argsort(dim=1)
        entropy = torch.where(sight.open, doubt.entropy(sight.belief), 0.0).gather(1, at)
        largest = entropy.cummax(1).values
        # What is left out is the largest so far, so the sum of the others grows by the smaller.
        smaller = torch.minimum(entropy[:, 1:], largest[:, :-1]).cumsum(1)
        spent = torch.cat([torch.zeros_like(entropy[:, :1]), smaller], dim=1)
        return sight.open & (spent <= self.bound).gather(1, rank)
