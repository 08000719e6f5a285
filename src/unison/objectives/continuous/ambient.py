"""Ambient denoising: what can be learnt from samples that are noisy themselves (arXiv:2411.02780).

A sample that is known at level n says nothing about smaller levels. Above them, noise is added up
to s, and the model's mean of x_0 becomes a mean of what was seen, x_n = x_0 + n noise:
E[x_n | x_s] = (n^2 / s^2) x_s + (1 - n^2 / s^2) E[x_0 | x_s].
"""

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
class Ambient:
    """sum of weight(s) |E[x_n | x_s] - x_n|^2 at levels s above each row's own n.

    Rows with n = 0 are clean, and their loss is that of ``Denoising``. Differs: levels are drawn
    from the law above n instead of being raised to n, where nothing is learnt.

    Attributes:
        levels: How often each level is trained.
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
        """Add the noise that is missing, and compare with what was seen.

        Args:
            process: What laws of time are about.
            bind: The model.
            batch: Events, and at which level each is known.
            key: One random stream per row.

        Raises:
            ValueError: A row is known only at a level above all that the model is to learn.
        """
        denoise = bound(bind, batch, key, self.dropout)
        known = torch.zeros_like(batch.strata) if batch.known is None else batch.known
        known = known.to(batch.strata.dtype)
        low, high = span_of(denoise)
        _check_known(known, high)
        least, most = known.clamp(min=low), torch.full_like(known, high)
        level = self.levels.draw(process, batch.strata, least, most)
        seen = batch.events
        added, share, s = (
            part.to(seen.dtype)
            for part in (
                (level.square() - known.square()).clamp(min=0).sqrt(),
                (known / level).square(),
                level,
            )
        )
        rows = (-1, *[1] * (seen.ndim - 1))
        x = seen + added.view(rows) * noise_of(batch, key)
        share = share.view(rows)
        predicted = share * x + (1 - share) * denoise(x, s)
        return summed(predicted - seen, self.weight(level))


def _check_known(known: torch.Tensor, high: float) -> None:
    worst = known.max().item()
    if not (known.min().item() >= 0 and worst < high):
        raise ValueError(
            f"events are known at levels up to {worst:.6g}; they must be at least 0 and below the "
            f"model's highest, {high:.6g}."
        )
