"""How much does a squared error of the clean mean count at each level?

The minimiser is E[x_0 | x_t] whatever the weight; it decides where a network is most careful.
Errors of other predictions are this error times a number: of the noise 1 / s, of the velocity of a
process of constant variance sqrt(1 + s^2) / s.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unison.types import Level


@runtime_checkable
class Weight(Protocol):
    """Weight of |D - x_0|^2 by level."""

    def __call__(self, level: Level) -> Level:
        """Return the weight at s."""
        ...


@dataclass(frozen=True)
class Balanced:
    """(s^2 + d^2) / (s d)^2: equal loss at all levels at first (arXiv:2206.00364, table 1).

    Attributes:
        spread: Standard deviation d of the data.
    """

    spread: float = 0.5

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"weight.spread must be above 0, got {self.spread}.")

    def __call__(self, level: Level) -> Level:
        """Evaluate."""
        return 1 / self.spread**2 + level**-2


@dataclass(frozen=True)
class OfNoise:
    """1 / s^2: squared errors of the noise (DDPM's simple loss, arXiv:2006.11239)."""

    def __call__(self, level: Level) -> Level:
        """Evaluate."""
        return level**-2


@dataclass(frozen=True)
class OfClean:
    """1: squared errors of the clean event."""

    def __call__(self, level: Level) -> Level:
        """Evaluate."""
        return level**0


@dataclass(frozen=True)
class MinSNR:
    """min(1 / s^2, gamma): small levels count no more than that (arXiv:2303.09556).

    Attributes:
        gamma: The most a squared error of the clean event counts.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"weight.gamma must be above 0, got {self.gamma}.")

    def __call__(self, level: Level) -> Level:
        """Evaluate."""
        return (level**-2).clamp(max=self.gamma)


WEIGHTS: dict[str, type[Weight]] = {
    "balanced": Balanced,
    "clean": OfClean,
    "min_snr": MinSNR,
    "noise": OfNoise,
}
