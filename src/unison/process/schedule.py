"""How much noise is there at time t? Survival probabilities alpha(t) and their derivatives."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Values = Float[Tensor, "*N"]


@runtime_checkable
class Schedule(Protocol):
    """Survival probability alpha(t), decreasing from (nearly) 1 at t=0 to (nearly) 0 at t=1."""

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        ...

    def dalpha(self, t: Values) -> Values:
        """Evaluate the (negative) time derivative of alpha at t."""
        ...


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}.")


@dataclass(frozen=True)
class LogLinear:
    """alpha(t) = 1 - (1 - eps) t: total noise -log(alpha) is log-linear (arXiv:2406.07524).

    Attributes:
        eps: Survival probability left at t=1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_fraction("eps", self.eps)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return 1 - (1 - self.eps) * t

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        return torch.full_like(t, -(1 - self.eps))


@dataclass(frozen=True)
class Cosine:
    """alpha(t) = 1 - cos(pi/2 (1 - (1 - eps) t)), the cosine of Duo (arXiv:2506.10892).

    Differs: the derivative carries the chain factor (1 - eps) that the published code omits.

    Attributes:
        eps: Keeps alpha(1) = 1 - cos(pi eps / 2) above 0.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_fraction("eps", self.eps)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t, as 2 sin^2 of the half angle: no cancellation near t=1."""
        return 2 * torch.sin(math.pi / 4 * (1 - (1 - self.eps) * t)).square()

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        angle = math.pi / 2 * (1 - (1 - self.eps) * t)
        return -math.pi / 2 * (1 - self.eps) * angle.sin()


@dataclass(frozen=True)
class QuarterCosine:
    """alpha(t) = eps + (1 - eps) cos(pi t / 2), MDLM's "cosine" option (arXiv:2406.07524).

    Attributes:
        eps: Survival probability left at t=1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_fraction("eps", self.eps)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return self.eps + (1 - self.eps) * torch.cos(math.pi / 2 * t)

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        return -(1 - self.eps) * math.pi / 2 * torch.sin(math.pi / 2 * t)


@dataclass(frozen=True)
class CosineSquared:
    """alpha(t) = eps + (1 - eps) cos^2(pi t / 2) (arXiv:2406.07524, option of the MDLM code).

    Attributes:
        eps: Survival probability left at t=1.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        _check_fraction("eps", self.eps)

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return self.eps + (1 - self.eps) * torch.cos(math.pi / 2 * t).square()

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        return -(1 - self.eps) * math.pi / 2 * torch.sin(math.pi * t)


@dataclass(frozen=True)
class Geometric:
    """-log alpha(t) = sigma_min^(1-t) sigma_max^t, SEDD's geometric noise (arXiv:2310.16834).

    Attributes:
        sigma_min: Total noise at t=0.
        sigma_max: Total noise at t=1.
    """

    sigma_min: float = 1e-3
    sigma_max: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"0 < sigma_min < sigma_max is needed, got {self.sigma_min} and {self.sigma_max}."
            )

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        return torch.exp(-self._sigma(t))

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        sigma = self._sigma(t)
        return -sigma * math.log(self.sigma_max / self.sigma_min) * torch.exp(-sigma)

    def _sigma(self, t: Values) -> Values:
        return self.sigma_min ** (1 - t) * self.sigma_max**t


class Learned(nn.Module):
    """A monotone schedule with weights: the hook for learning where noise levels are spent.

    alpha(t) = 1 - (1 - eps) F(t), where F is a piecewise-linear CDF on [0, 1] whose steps are a
    softmax of ``logits``. The NELBO of a continuous-time process depends on alpha only through
    its end points, so a learned schedule moves variance, not the bound (Kingma et al., 2021,
    arXiv:2107.00630). Starts log-linear. Any module with ``alpha`` and ``dalpha`` fits as well.
    """

    def __init__(self, knots: int = 16, eps: float = 1e-3) -> None:
        super().__init__()
        if knots < 1:
            raise ValueError(f"knots must be at least 1, got {knots}.")
        _check_fraction("eps", eps)
        self.eps = eps
        self.logits = nn.Parameter(torch.zeros(knots))

    def alpha(self, t: Values) -> Values:
        """Evaluate alpha at t."""
        steps = self.logits.softmax(0)
        index, within = self._locate(t)
        before = (steps.cumsum(0) - steps)[index]
        return 1 - (1 - self.eps) * (before + within * steps[index])

    def dalpha(self, t: Values) -> Values:
        """Evaluate d alpha / dt at t."""
        index, _ = self._locate(t)
        return -(1 - self.eps) * self.logits.softmax(0)[index] * len(self.logits)

    def _locate(self, t: Values) -> tuple[Tensor, Tensor]:
        scaled = t * len(self.logits)
        index = scaled.detach().long().clamp(0, len(self.logits) - 1)
        return index, scaled - index


SCHEDULES: dict[str, type[LogLinear | Cosine | QuarterCosine | CosineSquared | Geometric]] = {
    "log_linear": LogLinear,
    "cosine": Cosine,
    "quarter_cosine": QuarterCosine,
    "cosine_squared": CosineSquared,
    "geometric": Geometric,
}


def make_schedule(name: str) -> Schedule:
    """Return the schedule of that name with its default settings.

    Raises:
        ValueError: The name is not in ``SCHEDULES``.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; known: {', '.join(SCHEDULES)}.")
    return SCHEDULES[name]()
