"""Resfusion (Shi et al., 2024, arXiv:2311.14900): DDPM around the residual, cut at half signal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from unison.process.continuous.gaussian import GaussianProcess, VariancePreserving, sigma
from unison.process.continuous.residual import Values
from unison.types import Event

_HALF = math.sqrt(3.0)  # s of a variance-preserving process whose signal is one half


@dataclass(frozen=True)
class Resfusion:
    """x_t = (2q - 1) x_0 + (1 - q) degraded + sqrt(1 - q^2) noise, q the signal of a VP process.

    That is q x_0 + (1 - q) residual + noise with residual = degraded - x_0: x_t - residual follows
    the base. Where q is 1/2 nothing of x_0 is left but through the degraded event: the smooth
    equivalence, which is t=1 here; the base's later times are never used.

    Attributes:
        base: Any process that preserves the variance; its law up to q = 1/2 is used.
    """

    base: GaussianProcess = field(default_factory=VariancePreserving)

    def __post_init__(self) -> None:
        probe = torch.tensor([0.25, 0.5], dtype=torch.float64)
        total = self.base.alpha(probe).square() + sigma(self.base, probe).square()
        if not torch.allclose(total, torch.ones_like(total)):
            raise ValueError(
                "the base of Resfusion must preserve the variance, alpha^2 + sigma^2 = 1; "
                f"{self.base} has {total.tolist()} at t=0.25 and 0.5. Use vp or cosine."
            )

    def alpha(self, t: Values) -> Values:
        """Evaluate 2q - 1."""
        return (2 * self.kept(t) - 1).clamp(min=0)  # rounding at t=1

    def shift(self, t: Values) -> Values:
        """Evaluate 1 - q."""
        return 1 - self.kept(t)

    def variance(self, t: Values) -> Values:
        """Evaluate 1 - q^2."""
        return sigma(self.base, t * self._end(t)).square()

    def carry(self, early: Values, late: Values) -> Values:
        """Return q(late) / q(early)."""
        return self.kept(late) / self.kept(early)

    def level(self, t: Values) -> Values:
        """Evaluate s."""
        return self.variance(t).sqrt() / self.alpha(t)

    def time_of(self, level: Values) -> Values:
        """Solve the quadratic in q."""
        square = level.square()
        kept = (2 * square + (3 * square + 1).sqrt()) / (4 * square + 1)
        return self.time_of_kept(torch.where(square.isinf(), torch.full_like(square, 0.5), kept))

    def kept(self, t: Values) -> Values:
        """Return q, the root of the base's signal-to-total ratio."""
        return self.base.alpha(t * self._end(t))

    def time_of_kept(self, kept: Values) -> Values:
        """Return the time at which the base's signal is ``kept``, at least one half."""
        level = (1 - kept.square()).clamp(min=0).sqrt() / kept
        return self.base.time_of(level) / self._end(kept)

    def _end(self, like: Values) -> Values:
        return self.base.time_of(torch.full_like(like, _HALF))


def truncated(process: Resfusion, alphas_cumprod: Sequence[float]) -> tuple[float, ...]:
    """Return the times of a discrete schedule, falling, cut at the equivalence; 0 is the last.

    Differs: the start has a signal of exactly one half on every schedule, and a step whose signal
    is less than 0.01 above it gives way.

    Args:
        process: Whose times are wanted.
        alphas_cumprod: q^2 of the steps 1 to T of a DDPM, falling.

    Raises:
        ValueError: No step has q of one half or less: there is nowhere to start.
    """
    kept = [value**0.5 for value in alphas_cumprod if value > 0.25]
    if not kept or len(kept) == len(alphas_cumprod):
        raise ValueError(
            "a schedule is cut where its signal falls through one half; this one goes from "
            f"{alphas_cumprod[0] ** 0.5:.3g} to {alphas_cumprod[-1] ** 0.5:.3g}."
        )
    if kept[-1] - 0.5 < 0.01:  # so close that it takes the place of the start
        kept = kept[:-1]
    times = process.time_of_kept(torch.tensor(kept, dtype=torch.float64))
    return (1.0, *reversed(times.tolist()), 0.0)


def resnoise(noise: Event, residual: Event, kept: tuple[float, float]) -> Event:
    """Return the target that makes a DDPM's own update restore.

    Args:
        noise: The noise in x_t.
        residual: degraded - x_0.
        kept: q at the step's time and at the one before it.
    """
    return noise + residual_weight(kept) * residual


def clean_of_resnoise(x: Event, degraded: Event, answer: Event, kept: tuple[float, float]) -> Event:
    """Return the clean event that a network's answer to ``resnoise`` means.

    Args:
        x: x_t.
        degraded: What is restored.
        answer: The network's.
        kept: q at the step's time and at the one before it.
    """
    late, spread = kept[0], math.sqrt(1 - kept[0] ** 2)
    weight = spread * residual_weight(kept)
    return (x - (1 - late - weight) * degraded - spread * answer) / (2 * late - 1 + weight)


def residual_weight(kept: tuple[float, float]) -> float:
    """Return the share of the residual in the resnoise: (1 - sqrt(a)) sqrt(1 - q^2) / (1 - a)."""
    late, early = kept
    return math.sqrt(1 - late**2) / (1 + late / early)
