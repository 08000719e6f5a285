"""Flow matching: regression of the velocity of a straight path (arXiv:2210.02747, 2209.03003).

For x_t = alpha x_0 + alpha s noise the velocity dx_t/dt is linear in x_0 and x_t, and so is the
velocity that a mean D implies: their difference is (alpha s' / s) (x_0 - D). For the straight path
alpha = 1 - t, s = t / (1 - t) that factor is 1 / t.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

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
from unison.objectives.continuous.levels import LevelLaw, UniformTime
from unison.prob.rng import Key
from unison.process.continuous import GaussianProcess


@dataclass(frozen=True)
class FlowMatching:
    """sum of |v(x_t, t) - dx_t/dt|^2 along the path of any Gaussian process.

    Attributes:
        levels: How often each time is trained.
        dropout: Probability that a row's label is left unsaid.
    """

    levels: LevelLaw = field(default_factory=UniformTime)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_share("dropout", self.dropout)

    def __call__(
        self, process: GaussianProcess, bind: Bind, batch: EventBatch, key: Key
    ) -> Squares:
        """Go to a time of each row's path, and compare velocities.

        Args:
            process: Whose path.
            bind: The model.
            batch: Clean events.
            key: One random stream per row.
        """
        denoise = bound(bind, batch, key, self.dropout)
        low, high = (torch.full_like(batch.strata, end) for end in span_of(denoise))
        level = self.levels.draw(process, batch.strata, low, high)
        s = level.to(batch.events.dtype)
        y = batch.events + s.view(-1, *[1] * (batch.events.ndim - 1)) * noise_of(batch, key)
        return summed(denoise(y, s) - batch.events, lever(process, level).square())


def lever(process: GaussianProcess, level: Tensor) -> Tensor:
    """Return alpha s' / s at each level: the error of the velocity for an error 1 of the mean."""
    time = process.time_of(level.double()).detach().requires_grad_()
    with torch.enable_grad():
        (speed,) = torch.autograd.grad(process.level(time).log().sum(), time)
    return (process.alpha(time) * speed).detach()
