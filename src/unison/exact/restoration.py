"""What does a restoration model know at best? The clean mean of a mixture, from two noisy views.

With degraded = x_0 + noise * n the degraded event and the centred state of a residual process,
(x_t - b degraded) / a, both are x_0 under Gaussian noise, so together they are one view of higher
precision: a mixture's own belief answers.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from unison.exact.mixtures import Mixture
from unison.types import Event, Level

Values = Float[Tensor, "*N"]


@runtime_checkable
class Affine(Protocol):
    """x_t = alpha(t) x_0 + shift(t) centre + sqrt(variance(t)) noise."""

    def alpha(self, t: Values) -> Values:
        """Return the share of x_0."""
        ...

    def shift(self, t: Values) -> Values:
        """Return the share of the centre."""
        ...

    def variance(self, t: Values) -> Values:
        """Return the variance of the noise."""
        ...


@dataclass(frozen=True)
class ExactRestoration:
    """E[x_0 | x_t, degraded] and its variances, of x_t above time 0.

    Attributes:
        law: Of the clean data.
        process: How x_t came about.
        degraded: x_0 plus noise, for each row.
        noise: Standard deviation of that noise.
        centre: What the process moves to, any function of ``degraded``; itself if ``None``.
    """

    law: Mixture
    process: Affine
    degraded: Event
    noise: float
    centre: Event | None = None

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean."""
        return self.moments(x, level)[0]

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return the mean and the variance of each coordinate."""
        t = level.double()[:, None]
        alpha, variance = self.process.alpha(t), self.process.variance(t)
        centre = self.degraded if self.centre is None else self.centre
        # A pinned end has no noise and no x_0: it says nothing, where 0 / 0 would say NaN.
        weight = alpha / variance.where(variance > 0, variance.new_ones(()))
        precision = weight * alpha + self.noise**-2
        seen = weight * (x.double() - self.process.shift(t) * centre)
        view = (seen + self.degraded.double() * self.noise**-2) / precision
        mean, spread = self.law.moments(view, precision[:, 0].rsqrt())
        return mean.to(x.dtype), spread.to(x.dtype)

    def keep(self, rows: Tensor) -> "ExactRestoration":
        """Return the same for some of the rows."""
        centre = None if self.centre is None else self.centre[rows]
        return ExactRestoration(self.law, self.process, self.degraded[rows], self.noise, centre)
