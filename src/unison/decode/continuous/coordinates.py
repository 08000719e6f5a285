"""In what are evaluations interpolated? Monotone functions of the level, as frozen dataclasses."""

import math
from dataclasses import dataclass, field

import torch

from unison.process.continuous import GaussianProcess, VariancePreserving


@dataclass(frozen=True)
class LogLevel:
    """u = log s: the choice of DPM-Solver (Lu et al., 2022, arXiv:2206.00927)."""

    def __call__(self, level: float) -> float:
        """Return log s."""
        return math.log(level)


@dataclass(frozen=True)
class Power:
    """s^exponent: 1 is the level itself, 1/7 the scale of Karras et al. (arXiv:2206.00364).

    Attributes:
        exponent: Above 0.
    """

    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not self.exponent > 0:
            raise ValueError(f"exponent must be above 0, got {self.exponent}.")

    def __call__(self, level: float) -> float:
        """Return the power of s."""
        return level**self.exponent


@dataclass(frozen=True)
class InTime:
    """The time of a process, or a root of it.

    Attributes:
        process: Whose time.
        power: t^(1/power); 2 makes steps of a quadratic grid equal.
    """

    process: GaussianProcess = field(default_factory=VariancePreserving)
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"power must be above 0, got {self.power}.")

    def __call__(self, level: float) -> float:
        """Return t^(1/power) at the level."""
        return float(self.process.time_of(torch.tensor(level, dtype=torch.float64))) ** (
            1 / self.power
        )


Axis = LogLevel | Power | InTime
