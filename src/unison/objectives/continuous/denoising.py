"""Denoising: regression of the clean event on the noisy one (arXiv:2206.00364, 2006.11239)."""

from dataclasses import dataclass, field

import torch

from unison.objectives.continuous.batch import (
    Bind,
    EventBatch,
    Squares,
    bound,
    check_share,
    noise_of,
    span_of,
    summed,
)
from unison.objectives.continuous.levels import LevelLaw, LogNormal
from unison.objectives.continuous.weights import Balanced, Weight
from unison.prob.rng import Key
from unison.process.continuous import GaussianProcess


@dataclass(frozen=True)
class Denoising:
    """sum of weight(s) |D(x_0 + s noise, s) - x_0|^2, whose minimiser is D = E[x_0 | y].

    Attributes:
        levels: How often each level is trained, within those the denoiser is to know.
        weight: How much an error counts at each level.
        dropout: Probability that a row's label is left unsaid.
    """

    levels: LevelLaw = field(default_factory=LogNormal)
    weight: Weight = field(default_factory=Balanced)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)

    def __call__(
        self, process: GaussianProcess, bind: Bind, batch: EventBatch, key: Key
    ) -> Squares:
        """Add noise at a level for each row, and compare.

        Args:
            process: What laws of time are about; the frame is y = x_t / alpha.
            bind: The model.
            batch: Clean events.
            key: One random stream per row.
        """
        denoise = bound(bind, batch, key, self.dropout)
        low, high = (torch.full_like(batch.strata, end) for end in span_of(denoise))
        level = self.levels.draw(process, batch.strata, low, high)
        s = level.to(batch.events.dtype)
        y = batch.events + s.view(-1, *[1] * (batch.events.ndim - 1)) * noise_of(batch, key)
        return summed(denoise(y, s) - batch.events, self.weight(level))
