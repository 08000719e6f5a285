"""What is undone where the degraded signal is at hand? Its way from the clean one, and noise.

Every process here is x_t = alpha(t) x_0 + shift(t) degraded + sqrt(variance(t)) noise, for t from
0 (clean) to 1 (where a run starts), and its forward chain carries x_s to x_t with a factor
carry(s, t). That is all that one posterior step needs. Given the degraded signal, the centred
(x_t - shift degraded) / alpha = x_0 + s noise with s = sqrt(variance) / alpha: a residual process
is a Gaussian one around a moving centre, and every solver of those serves it as well.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

SITE_START = 0x7FFFFD10

Values = Float[Tensor, "*N"]


@runtime_checkable
class ResidualProcess(Protocol):
    """x_t = alpha(t) x_0 + shift(t) degraded + sqrt(variance(t)) noise, t from 0 to 1."""

    def alpha(self, t: Values) -> Values:
        """Return the share of the clean event: 1 at t=0."""
        ...

    def shift(self, t: Values) -> Values:
        """Return the share of the degraded event: 0 at t=0."""
        ...

    def variance(self, t: Values) -> Values:
        """Return the variance of the noise: 0 at t=0."""
        ...

    def carry(self, early: Values, late: Values) -> Values:
        """Return the factor of x_early in x_late, given the clean and the degraded event."""
        ...

    def level(self, t: Values) -> Values:
        """Return s(t) = sqrt(variance) / alpha, increasing; infinite where no x_0 is left."""
        ...

    def time_of(self, level: Values) -> Values:
        """Return the time at which s(t) is ``level``."""
        ...


class Transition(NamedTuple):
    """How x_s follows from x_t, the clean event and the degraded one, as host numbers.

    Attributes:
        early: alpha, shift and variance at s.
        late: The same at t.
        gain: What is kept of the noise in x_t, in x_s.
        variance: The noise that is added.
    """

    early: tuple[float, float, float]
    late: tuple[float, float, float]
    gain: float
    variance: float

    @property
    def doubt(self) -> float:
        """By how much an error of the clean event displaces x_s."""
        return self.early[0] - self.gain * self.late[0]


def transition(process: ResidualProcess, late: float, early: float, eta: float) -> Transition:
    """Return the step from time ``late`` back to ``early``.

    With v the variances and r the carry, eta = 1 is the posterior of the forward chain, of gain
    r v_s / v_t and variance v_s (1 - r^2 v_s / v_t); any other eta adds eta^2 of that variance and
    keeps so much of the noise that the marginals stay as they are: eta = 0 is deterministic
    (the argument of DDIM, arXiv:2010.02502, eq. 12, around a moving centre). From a pinned end,
    where x_t has no noise to keep, all of v_s is drawn at any eta.
    """
    first, last = _numbers(process, early), _numbers(process, late)
    if last[2] <= 0:
        return Transition(first, last, 0.0, first[2])
    carry = process.carry(*torch.tensor([early, late], dtype=torch.float64)).item()
    added = eta**2 * first[2] * max(1 - carry**2 * first[2] / last[2], 0.0)
    return Transition(first, last, (max(first[2] - added, 0.0) / last[2]) ** 0.5, added)


def degraded_at(
    process: ResidualProcess, clean: Event, degraded: Event, noise: Event, t: Level
) -> Event:
    """Return x_t of every row, for training.

    Args:
        process: The law of corruption.
        clean: x_0.
        degraded: What it was degraded to.
        noise: Standard normal.
        t: Time of each row.
    """
    alpha, shift, spread = (
        part.to(clean.dtype).view(-1, *[1] * (clean.ndim - 1))
        for part in (
            process.alpha(t.double()),
            process.shift(t.double()),
            process.variance(t.double()).sqrt(),
        )
    )
    return alpha * clean + shift * degraded + spread * noise


def start(process: ResidualProcess, degraded: Event, key: Key, guess: Event | None = None) -> Event:
    """Return x_1 of every row, without the clean event.

    Args:
        process: The law of corruption.
        degraded: What is to be restored.
        key: One random stream per row.
        guess: What stands for x_0 in x_1; the degraded event if not given. The mean of x_1 is off
            by alpha(1) times the mean error of the guess: the prior's mismatch.
    """
    one = torch.ones((), dtype=torch.float64)
    noise = rng.normal(key, SITE_START, degraded[0].numel()).view(degraded.shape)
    clean = degraded if guess is None else guess
    return (
        process.alpha(one).item() * clean
        + process.shift(one).item() * degraded
        + process.variance(one).item() ** 0.5 * noise.to(degraded)
    )


def _numbers(process: ResidualProcess, time: float) -> tuple[float, float, float]:
    t = torch.tensor(time, dtype=torch.float64)
    return process.alpha(t).item(), process.shift(t).item(), process.variance(t).item()
