"""Restoration: regression of the clean event on its way to a degraded one.

ResShift (Yue et al., 2023, arXiv:2307.12348) counts errors of x_0 as they are, weight ``OfClean``.
SGMSE+ (Richter et al., 2023, arXiv:2208.05830) counts errors of the scaled score, which are those
of x_0 over s = sqrt(variance) / alpha, weight ``OfNoise``.
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
from unison.objectives.continuous.weights import OfClean, Weight
from unison.prob.rng import Key
from unison.process.continuous.residual import ResidualProcess, degraded_at


@dataclass(frozen=True)
class Restoring:
    """sum of weight(s(t)) |D(x_t, t) - x_0|^2 at uniform times, given the degraded event.

    Attributes:
        weight: How much an error counts at each level s(t).
        earliest: The least time.
        dropout: Probability that a row's label is left unsaid.
    """

    weight: Weight = field(default_factory=OfClean)
    earliest: float = 0.03
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)
        if not 0 < self.earliest < 1:
            raise ValueError(f"objective.earliest must be in (0, 1), got {self.earliest}.")

    def __call__(
        self, process: ResidualProcess, bind: Bind, batch: EventBatch, key: Key
    ) -> Squares:
        """Go to a time of each row's way, and compare.

        Args:
            process: The way.
            bind: The model; it is given the degraded events as what is known beside.
            batch: Clean events, degraded ones beside.
            key: One random stream per row.

        Raises:
            ValueError: There are no degraded events, or they are of another shape.
        """
        clean, degraded = batch.events, batch.beside
        if degraded is None or degraded.shape != clean.shape:
            found = "none" if degraded is None else tuple(degraded.shape)
            raise ValueError(
                f"a residual process needs a degraded event of shape {tuple(clean.shape)} beside "
                f"each clean one, got {found}; name a degradation."
            )
        denoise = bound(bind, batch, key, self.dropout)
        low, high = span_of(denoise)
        first, last = max(self.earliest, low), min(1.0, high)
        time = first + (last - first) * batch.strata.double()
        x = degraded_at(process, clean, degraded, noise_of(batch, key), time)
        error = denoise(x, time.to(clean.dtype)) - clean
        level = torch.where(process.alpha(time) > 0, process.level(time), torch.inf)
        return summed(error, self.weight(level))
