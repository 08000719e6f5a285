"""Weighted particles in groups: every row that is asked for has its own, and sees no other's."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.guidance.conjugate import solved
from unison.decode.continuous.guidance.measurement import Measurement
from unison.prob import rng
from unison.prob.resampling import effective, systematic
from unison.prob.rng import Key
from unison.types import Event

SITE_FIRST, SITE_SHOWN, SITE_KEPT = 0x7FFFFF20, 0x7FFFFF21, 0x7FFFFF22


class Posterior(NamedTuple):
    """What a posterior sampler returns.

    Attributes:
        particles: N events for each row.
        log_weights: Normalised within each row.
        log_evidence: An estimate of log p(y) of each row; its exponential has no bias but that
            of finitely many levels.
        nfe: Denoiser evaluations per particle.
        resampled: How often the particles of each row were resampled.
    """

    particles: Float[Tensor, "B N *E"]
    log_weights: Float[Tensor, "B N"]
    log_evidence: Float[Tensor, " B"]
    nfe: int
    resampled: Int[Tensor, " B"]

    def mean(self) -> Event:
        """Return the weighted mean of each row: E[x_0 | y]."""
        shares = self.log_weights.exp().to(self.particles)
        return torch.einsum("bn,bn...->b...", shares, self.particles)

    def best(self) -> Event:
        """Return the particle of each row with the greatest weight."""
        return self.particles[torch.arange(len(self.particles)), self.log_weights.argmax(1)]

    def draw(self, key: Key, count: int) -> Float[Tensor, "B K *E"]:
        """Return particles of equal weight, resampled systematically."""
        chosen = systematic(self.log_weights, rng.uniform(key, SITE_KEPT, 1)[:, 0], count)
        return self.particles[torch.arange(len(self.particles))[:, None], chosen]


def streams(key: Key, count: int) -> Key:
    """Return a stream for each of ``count`` particles of every row, row by row."""
    number = torch.arange(count, device=key.seed.device).repeat(len(key.seed))
    return Key(rng.derived(key.seed.repeat_interleave(count), number), key.step)


def normals(key: Key, site: int, x: Event) -> Event:
    """Draw standard normals of the shape and type of events."""
    return rng.normal(key, site, math.prod(x.shape[1:])).view_as(x).to(x)


def first(
    measurement: Measurement, like: Event, total: float, variance: float, key: Key
) -> tuple[Event, Float[Tensor, " B"]]:
    """Draw from N(0, total) exp(-|y - A x|^2 / (2 variance)), and return the log of its mass.

    Exact for linear operators: a draw of the prior is moved by the difference between what was
    measured and what would have been measured of it, solved by conjugate gradients. For others
    the prior is drawn, and the log of the factor returned, which is right in the mean.

    Args:
        measurement: What was seen.
        like: Events whose shape and type are wanted.
        total: Variance of the noisy data.
        variance: Of the likelihood, tempered.
        key: A stream for each row.
    """
    shape, operator = tuple(like.shape[1:]), measurement.linear
    x = total**0.5 * normals(key, SITE_FIRST, like)
    if operator is None:
        return x, -measurement.misfit(x).double() / (2 * variance)

    def shown(seen: Tensor) -> Tensor:
        return total * operator(operator.adjoint(seen, shape)) + variance * seen

    wanted = measurement.residual(torch.zeros_like(x))
    off = measurement.residual(x) - variance**0.5 * normals(key, SITE_SHOWN, wanted)
    sizes = operator.squares(shape).to(x.device)
    enough = 1 + min(sizes.shape[1], 200)
    moved = x + total * operator.adjoint(solved(shown, off, enough), shape)
    fit = (wanted * solved(shown, wanted, enough)).flatten(1).sum(1).double()
    return moved, -(fit + torch.log1p(total * sizes / variance).sum(1)) / 2


def resampled(
    log_weights: Float[Tensor, "B N"], share: float, key: Key
) -> tuple[Int[Tensor, " R"], Float[Tensor, "B N"], Int[Tensor, " B"]]:
    """Return which particles go on, their weights, and which rows were resampled.

    A row whose effective number is below ``share`` of its particles is resampled: its weights
    become equal, with the same sum. No row waits for another, nor for a device.

    Args:
        log_weights: Unnormalised.
        share: 0 never resamples.
        key: One stream for each row.
    """
    rows, count = log_weights.shape
    poor = effective(log_weights) < share * count
    chosen = systematic(log_weights, rng.uniform(key, SITE_KEPT, 1)[:, 0])
    stay = torch.arange(count, device=log_weights.device)
    chosen = chosen.where(poor[:, None], stay)
    level = log_weights.logsumexp(1, keepdim=True) - math.log(count)
    begins = torch.arange(rows, device=log_weights.device)[:, None] * count
    weights = level.expand(rows, count).where(poor[:, None], log_weights)
    return (begins + chosen).flatten(), weights, poor.long()


def summed_up(
    x: Float[Tensor, "P *E"],
    log_weights: Float[Tensor, "B N"],
    nfe: int,
    times: Int[Tensor, " B"],
) -> Posterior:
    """Return the particles row by row with normalised weights, and what they sum to.

    Raises:
        ValueError: Weights are not finite.
    """
    if not bool(log_weights.isfinite().all()):
        raise ValueError(
            "the particles' weights overflowed: the denoiser answered with NaN or infinity, or "
            "the levels are too far apart for so sharp a measurement; take more of them."
        )
    rows, count = log_weights.shape
    mass = log_weights.logsumexp(1, keepdim=True)
    return Posterior(
        x.view(rows, count, *x.shape[1:]),
        log_weights - mass,
        mass[:, 0] - math.log(count),
        nfe,
        times,
    )
