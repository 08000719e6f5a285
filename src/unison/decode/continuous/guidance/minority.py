"""Minority guidance (Um, Lee and Ye, 2024, arXiv:2301.12334): towards what the data have little of.

A model trained on the data draws noisy rare events back to common ones, so how far an event moves
when it is noised and denoised again tells how rare it is. Two ways follow: a classifier of noisy
events into quantiles of that score, handed to ``Classified``; or, without any training, a gradient
that makes the answer move (Um and Ye, 2024, arXiv:2407.11555). Components that are wide move more
too: a high score is not always rarity.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.api import at, over
from unison.decode.continuous.guidance.parts import check_weight, kept, known
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Level

SITE_SCORED, SITE_MOVED = 0x7FFFFF15, 0x7FFFFF16


def minority_score(
    denoise: EventDenoiser, x: Event, level: float, key: Key, draws: int = 5
) -> Float[Tensor, " B"]:
    """Return E|x_0 - D(x_0 + level noise)|^2 of each clean event, a mean over draws."""
    total = x.new_zeros(len(x))
    for draw in range(draws):
        noise = rng.normal(Key(rng.derived(key.seed, draw)), SITE_SCORED, x[0].numel())
        noisy = x + level * noise.view_as(x).to(x)
        total = total + (x - denoise(noisy, at(level, x))).square().flatten(1).sum(1)
    return total / draws


def quantile_classes(scores: Float[Tensor, " N"], count: int = 100) -> Int[Tensor, " N"]:
    """Return which of ``count`` equally filled classes each score is in; the last is the rarest.

    Raises:
        ValueError: There are fewer scores than classes.
    """
    if not 2 <= count <= len(scores):
        raise ValueError(
            f"classes must number from 2 to the {len(scores)} scores there are, got {count}."
        )
    return scores.argsort().argsort() * count // len(scores)


@dataclass(frozen=True)
class SelfGuided:
    """D + weight s^2 grad |D - D(D + other noise)|^2, the inner answer held fixed.

    Attributes:
        denoise: Who is guided; differentiable.
        weight: Strength.
        seed: A stream for each row; its noise stays the same over the run.
        other: The level the answer is noised to, as a share of the level it was given at.
        below: Levels up to here are guided.
    """

    denoise: EventDenoiser
    weight: float
    seed: Int[Tensor, " B"]
    other: float = 1.0
    below: float = float("inf")

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if not self.other > 0:
            raise ValueError(f"the share of the level must be above 0, got {self.other}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows; with ``other`` it is asked at shares of them too."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate twice and go back through the first."""
        noise = rng.normal(Key(self.seed), SITE_MOVED, x[0].numel()).view_as(x).to(x)
        again = self.other * level
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            mean = self.denoise(free, level)
            moved = self.denoise(mean.detach() + over(again, x) * noise, again).detach()
            distance = (mean - moved).square().flatten(1).sum(1)
            (slope,) = torch.autograd.grad(distance.sum(), free)
        gain = (self.weight * level.square()).where(level <= self.below, 0.0)
        return mean.detach() + over(gain, x) * slope

    def keep(self, rows: Int[Tensor, " R"]) -> "SelfGuided":
        """Return the guidance of some rows."""
        return replace(self, denoise=kept(self.denoise, rows), seed=self.seed[rows])
