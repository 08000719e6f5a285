"""A Brownian bridge of exploding variance, pinned at both signals (Jukic et al., 2024).

The Schroedinger bridge between paired data (Chen et al., 2023, arXiv:2312.03491), with the
schedule used for speech (Jukic et al., 2024, arXiv:2407.16074).
"""

import math
from dataclasses import dataclass

import torch

from unison.process.continuous.residual import Values


@dataclass(frozen=True)
class SBVE:
    """x_t given both ends of a diffusion of g(t)^2 = scale base^(2t), from x_0 to the degraded.

    With rho(t) = sigma_t^2 / sigma_1^2: x_t = (1 - rho) x_0 + rho degraded + noise of variance
    sigma_1^2 rho (1 - rho). At t=1 it *is* the degraded event: no mismatch, and no noise.

    Attributes:
        base: How fast the diffusion grows, k.
        scale: Its square at t=0, c.
    """

    base: float = 2.6
    scale: float = 0.4

    def __post_init__(self) -> None:
        if not (self.base > 1 and self.scale > 0):
            raise ValueError(
                f"base > 1 and scale > 0 are needed, got {self.base} and {self.scale}."
            )

    def alpha(self, t: Values) -> Values:
        """Evaluate 1 - rho."""
        return 1 - self._share(t)

    def shift(self, t: Values) -> Values:
        """Evaluate rho."""
        return self._share(t)

    def variance(self, t: Values) -> Values:
        """Evaluate the bridge's variance."""
        return self._total() * self._share(t) * (1 - self._share(t))

    def carry(self, early: Values, late: Values) -> Values:
        """Return (1 - rho(late)) / (1 - rho(early))."""
        return (1 - self._share(late)) / (1 - self._share(early))

    def level(self, t: Values) -> Values:
        """Evaluate s."""
        share = self._share(t)
        return (self._total() * share / (1 - share)).sqrt()

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        share = 1 / (1 + self._total() / level.square())
        return torch.log1p(share * math.expm1(self._rate())) / self._rate()

    def _share(self, t: Values) -> Values:
        return torch.expm1(self._rate() * t) / math.expm1(self._rate())

    def _total(self) -> float:
        return self.scale * math.expm1(self._rate()) / self._rate()

    def _rate(self) -> float:
        return 2 * math.log(self.base)
