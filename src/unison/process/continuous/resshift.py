"""ResShift (Yue, Wang and Loy, 2023, arXiv:2307.12348): the residual is moved in, under noise."""

import math
from dataclasses import dataclass

import torch

from unison.process.continuous.residual import Values


@dataclass(frozen=True)
class ResShift:
    """x_t = (1 - eta) x_0 + eta degraded + kappa sqrt(eta) noise: a walk whose carry is 1.

    The root of eta grows from ``lowest`` to ``highest`` as lowest (highest / lowest)^(u^power),
    with u the share of the steps after the first; the published times are k / steps. Below the
    first, eta is linear in t, so that a run may end as close to the data as is asked.

    Attributes:
        kappa: Standard deviation of the noise where eta is 1.
        steps: Steps of the published chain, T.
        power: Above 0; small values spend few steps at little noise.
        floor: Standard deviation of the noise after the first step.
        highest: Root of eta at t=1.
    """

    kappa: float = 2.0
    steps: int = 15
    power: float = 0.3
    floor: float = 0.04
    highest: float = 0.99

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}.")
        if not (self.kappa > 0 and self.power > 0):
            raise ValueError(f"kappa and power must be above 0, got {self.kappa} and {self.power}.")
        if not 0 < self._lowest() < self.highest < 1:
            raise ValueError(
                "0 < min(floor / kappa, floor) < highest < 1 is needed, got "
                f"{self._lowest()} and {self.highest}."
            )

    def alpha(self, t: Values) -> Values:
        """Evaluate 1 - eta."""
        return 1 - self.eta(t)

    def shift(self, t: Values) -> Values:
        """Evaluate eta."""
        return self.eta(t)

    def variance(self, t: Values) -> Values:
        """Evaluate kappa^2 eta."""
        return self.kappa**2 * self.eta(t)

    def carry(self, early: Values, late: Values) -> Values:
        """Return 1."""
        return torch.ones_like(late)

    def level(self, t: Values) -> Values:
        """Evaluate s."""
        return self.variance(t).sqrt() / self.alpha(t)

    def time_of(self, level: Values) -> Values:
        """Solve the quadratic in the root of eta."""
        root = 2 * level / (self.kappa + (self.kappa**2 + 4 * level.square()).sqrt())
        return self._time_of_root(root)

    def eta(self, t: Values) -> Values:
        """Return how much of the residual has been moved in."""
        along = ((t * self.steps - 1) / (self.steps - 1)).clamp(min=0)
        root = self._lowest() * torch.exp(self._growth() * along**self.power)
        return torch.where(t * self.steps < 1, t * self.steps * self._lowest() ** 2, root.square())

    def _time_of_root(self, root: Values) -> Values:
        along = ((root / self._lowest()).log() / self._growth()).clamp(min=0) ** (1 / self.power)
        late = (1 + (self.steps - 1) * along) / self.steps
        early = (root / self._lowest()).square() / self.steps
        return torch.where(root < self._lowest(), early, late)

    def _lowest(self) -> float:
        return min(self.floor / self.kappa, self.floor)

    def _growth(self) -> float:
        return math.log(self.highest / self._lowest())
