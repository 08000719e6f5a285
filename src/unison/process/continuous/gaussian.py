"""What is undone in continuous data? Noise that is added to a shrinking signal.

Every process here is x_t = alpha(t) x_0 + sigma(t) noise. With y = x_t / alpha and
s = sigma / alpha all of them are the same problem, y = x_0 + s noise, whose probability-flow ODE
is dy/ds = (y - E[x_0 | y]) / s (Song et al., 2021, arXiv:2011.13456; Karras et al., 2022,
arXiv:2206.00364): solvers see that frame alone, and a process matters at its two ends.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Values = Float[Tensor, "*N"]


@runtime_checkable
class GaussianProcess(Protocol):
    """x_t = alpha(t) x_0 + sigma(t) noise, for t from 0 (clean) to 1 (noise)."""

    def alpha(self, t: Values) -> Values:
        """Return the signal left at t, above 0."""
        ...

    def level(self, t: Values) -> Values:
        """Return s(t) = sigma / alpha, increasing."""
        ...

    def time_of(self, level: Values) -> Values:
        """Return the time at which s(t) is ``level``."""
        ...


def sigma(process: GaussianProcess, t: Values) -> Values:
    """Return the standard deviation of the noise in x_t."""
    return process.alpha(t) * process.level(t)


@dataclass(frozen=True)
class VariancePreserving:
    """Rates beta(t) linear in t: the process of DDPM (arXiv:2006.11239), in continuous time.

    Attributes:
        beta_min: Rate at t=0.
        beta_max: Rate at t=1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check_order("beta_min", self.beta_min, "beta_max", self.beta_max)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return torch.exp(-self._total(t) / 2)

    def level(self, t: Values) -> Values:
        """Evaluate s at t."""
        return torch.expm1(self._total(t)).sqrt()

    def time_of(self, level: Values) -> Values:
        """Solve the quadratic in t."""
        total = torch.log1p(level.square())
        slope = self.beta_max - self.beta_min
        return 2 * total / (self.beta_min + (self.beta_min**2 + 2 * slope * total).sqrt())

    def _total(self, t: Values) -> Values:
        return self.beta_min * t + (self.beta_max - self.beta_min) / 2 * t.square()


@dataclass(frozen=True)
class Cosine:
    """alpha(t) = cos(pi t / 2), sigma(t) = sin(pi t / 2), cut short of t=1 (arXiv:2102.09672).

    Attributes:
        highest: s at t=1, where the plain cosine would divide by zero.
    """

    highest: float = 200.0

    def __post_init__(self) -> None:
        _check_order("0", 0.0, "highest", self.highest)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return torch.cos(self._angle() * t)

    def level(self, t: Values) -> Values:
        """Evaluate s at t."""
        return torch.tan(self._angle() * t)

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        return torch.atan(level) / self._angle()

    def _angle(self) -> float:
        return math.atan(self.highest)


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1 and a geometric s from ``lowest`` to ``highest`` (arXiv:1907.05600).

    Attributes:
        lowest: s at t=0; the data are known up to this noise.
        highest: s at t=1.
    """

    lowest: float = 0.01
    highest: float = 50.0

    def __post_init__(self) -> None:
        _check_order("lowest", self.lowest, "highest", self.highest)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return torch.ones_like(t)

    def level(self, t: Values) -> Values:
        """Evaluate s at t."""
        return self.lowest ** (1 - t) * self.highest**t

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        return (level / self.lowest).log() / math.log(self.highest / self.lowest)


@dataclass(frozen=True)
class EDM:
    """alpha = 1 and s = t^rho between two ends on the scale s^(1/rho) (arXiv:2206.00364, eq. 5).

    Attributes:
        lowest: s at t=0.
        highest: s at t=1.
        rho: How much of the time is spent at small s.
    """

    lowest: float = 0.002
    highest: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_order("lowest", self.lowest, "highest", self.highest)
        _check_order("0", 0.0, "rho", self.rho)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return torch.ones_like(t)

    def level(self, t: Values) -> Values:
        """Evaluate s at t."""
        low, high = self._ends()
        return (low + t * (high - low)) ** self.rho

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        low, high = self._ends()
        return (level ** (1 / self.rho) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        return self.lowest ** (1 / self.rho), self.highest ** (1 / self.rho)


@dataclass(frozen=True)
class FlowMatching:
    """x_t = (1 - t) x_0 + t noise, cut short of t=1 (arXiv:2210.02747, 2209.03003).

    Attributes:
        highest: s at t=1, where the plain path would divide by zero.
    """

    highest: float = 200.0

    def __post_init__(self) -> None:
        _check_order("0", 0.0, "highest", self.highest)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return 1 - self._share() * t

    def level(self, t: Values) -> Values:
        """Evaluate s at t."""
        along = self._share() * t
        return along / (1 - along)

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        return level / (1 + level) / self._share()

    def _share(self) -> float:
        return self.highest / (1 + self.highest)


def noisy(process: GaussianProcess, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t of every row.

    Args:
        process: The law of corruption.
        clean: x_0, [batch, *event].
        noise: Standard normal, like ``clean``.
        t: Time of each row.
    """
    alpha, spread = (
        part.to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
        for part in (process.alpha(t.double()), sigma(process, t.double()))
    )
    return alpha * clean + spread * noise


def _check_order(low_name: str, low: float, high_name: str, high: float) -> None:
    if not low < high or low < 0:
        raise ValueError(f"0 <= {low_name} < {high_name} is needed, got {low} and {high}.")
