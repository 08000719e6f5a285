"""Is what a model was made to forget still in it? A search for a condition that brings it back.

The idea of UnlearnDiffAtk (Zhang et al., 2024, arXiv:2310.11868): a diffusion model is its own
classifier, so a condition under which it denoises one picture of the erased thing well is one that
generates it; no other model is needed. Differs: conditions are vectors, not relaxed tokens, and
all levels are drawn at once. A success rate means something only beside that of a model which never
saw the thing: a free vector steers any model a little towards the picture it was fitted to.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.stats import binomtest
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate, Event, Level

SITE_LEVELS, SITE_NOISE = 60, 61

Conditions = Float[Tensor, "B C"]


@runtime_checkable
class Steerable(Protocol):
    """A denoiser whose condition is a vector for each row, differentiable in it."""

    def __call__(self, x: Event, level: Level, condition: Conditions) -> Event:
        """Return E[x_0 | x_t, condition]."""
        ...


@dataclass(frozen=True)
class Attack:
    """Adam on the denoising error of each target, levels log-uniform, fresh noise each time.

    An error counts 1/s^2 + 1/spread^2 as in training by EDM; a row's search depends on its own
    target and stream alone.

    Attributes:
        iterations: Steps.
        rate: Length of a step, about, in units of the condition.
        draws: Noisy copies of each target in a step.
        low: Lowest level.
        high: Highest level.
        spread: Standard deviation of the data.
    """

    iterations: int = 100
    rate: float = 0.1
    draws: int = 4
    low: float = 0.1
    high: float = 10.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        for name in ("iterations", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not (self.rate > 0 and self.spread > 0 and 0 < self.low < self.high):
            raise ValueError(
                "rate > 0, spread > 0 and 0 < low < high are needed, got "
                f"{self.rate}, {self.spread}, {self.low} and {self.high}."
            )

    def __call__(
        self, denoise: Steerable, targets: Event, begin: Conditions, key: Key
    ) -> Conditions:
        """Return the condition found for each target.

        Args:
            denoise: The model under attack.
            targets: One picture of what is to come back, for each row.
            begin: Where each search begins.
            key: One random stream for each row.
        """
        found = begin.detach().clone().requires_grad_()
        adam = torch.optim.Adam([found], lr=self.rate)
        for step in range(self.iterations):
            error = self.error(denoise, targets, found, key.at(step)).sum()
            (found.grad,) = torch.autograd.grad(error, found)
            adam.step()
        return found.detach()

    def error(
        self, denoise: Steerable, targets: Event, condition: Conditions, key: Key
    ) -> Float[Tensor, " B"]:
        """Return the weighted denoising error of each row under its condition."""
        rows, size = len(targets), targets[0].numel()
        u = rng.uniform(key, SITE_LEVELS, self.draws).flatten()
        level = self.low * torch.exp(u * math.log(self.high / self.low))
        noise = rng.normal(key, SITE_NOISE, self.draws * size).to(targets)
        clean = targets.repeat_interleave(self.draws, 0)
        s = level.to(targets)
        tall = s.view(-1, *[1] * (targets.ndim - 1))
        noisy = clean + tall * noise.view_as(clean)
        answer = denoise(noisy, s, condition.repeat_interleave(self.draws, 0))
        squares = (answer - clean).square().flatten(1).mean(1)
        weight = s.square().reciprocal() + self.spread**-2
        return (weight * squares).view(rows, self.draws).mean(1)


class Success(NamedTuple):
    """How often something came back.

    Attributes:
        rate: Share of attempts.
        low: End of its 95 % interval by Wilson, 1927.
        high: The other end.
    """

    rate: Estimate
    low: float
    high: float


def success(came_back: int, attempts: int) -> Success:
    """Return a rate of successes with its interval.

    Raises:
        ValueError: There are no attempts, or more successes than attempts.
    """
    if not 0 <= came_back <= attempts or attempts < 1:
        raise ValueError(f"{came_back} successes of {attempts} attempts are no rate.")
    rate = came_back / attempts
    interval = binomtest(came_back, attempts).proportion_ci(method="wilson")
    error = (rate * (1 - rate) / attempts) ** 0.5
    return Success(
        Estimate(rate, error, attempts, "share"), float(interval.low), float(interval.high)
    )
