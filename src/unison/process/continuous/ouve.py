"""The process of SGMSE+ (Richter et al., 2023, arXiv:2208.05830): pulled to the degraded signal."""

import math
from dataclasses import dataclass

import torch

from unison.process.continuous.residual import Values


@dataclass(frozen=True)
class OUVE:
    """dx = stiffness (degraded - x) dt + g(t) dw, with g growing geometrically.

    g(t) = low (high / low)^t sqrt(2 log(high / low)). The mean is still exp(-stiffness) of the way
    from the degraded event at t=1: a run that starts there starts beside the process.
    StoRM (Lemercier et al., 2023, arXiv:2212.11851) runs it around a predictor's answer.

    Attributes:
        stiffness: How fast the mean moves, theta.
        low: Scale of the noise at t=0.
        high: Scale of the noise at t=1.
    """

    stiffness: float = 1.5
    low: float = 0.05
    high: float = 0.5

    def __post_init__(self) -> None:
        if not (self.stiffness > 0 and 0 < self.low < self.high):
            raise ValueError(
                "stiffness > 0 and 0 < low < high are needed, got "
                f"{self.stiffness}, {self.low} and {self.high}."
            )

    def alpha(self, t: Values) -> Values:
        """Evaluate exp(-stiffness t)."""
        return torch.exp(-self.stiffness * t)

    def shift(self, t: Values) -> Values:
        """Evaluate 1 - exp(-stiffness t)."""
        return -torch.expm1(-self.stiffness * t)

    def variance(self, t: Values) -> Values:
        """Evaluate the variance."""
        return self._scale() * torch.expm1(self._rate() * t) * self.alpha(t).square()

    def carry(self, early: Values, late: Values) -> Values:
        """Return exp(-stiffness (late - early))."""
        return torch.exp(-self.stiffness * (late - early))

    def level(self, t: Values) -> Values:
        """Evaluate s."""
        return (self._scale() * torch.expm1(self._rate() * t)).sqrt()

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        return torch.log1p(level.square() / self._scale()) / self._rate()

    def diffusion(self, t: Values) -> Values:
        """Evaluate g(t)^2."""
        return 2 * self._log() * self.low**2 * torch.exp(2 * self._log() * t)

    def _log(self) -> float:
        return math.log(self.high / self.low)

    def _rate(self) -> float:
        return 2 * (self.stiffness + self._log())

    def _scale(self) -> float:
        return self.low**2 * self._log() / (self.stiffness + self._log())
