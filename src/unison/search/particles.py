"""Particles: N samplers of a row that are weighed, and resampled where few weights are left."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import resampling
from unison.prob.rng import Key
from unison.search.api import Found, Reward, Run
from unison.search.hunt import begun, check_at_least, check_temperature, drawn, finite
from unison.search.value import Guessed, Value, ahead


@dataclass(frozen=True)
class Particles:
    """Sequential Monte Carlo with the sampler as proposal and values as potentials.

    After a step a particle's weight is exp((v - v') / T), v' its ancestor's value when it was last
    resampled; after the last step v is the reward. A row whose effective number of particles
    falls below a share of N is resampled systematically, by itself (Del Moral et al., 2006,
    doi 10.1111/j.1467-9868.2006.00553.x). One particle is drawn by its final weight.

    Law: the sampler's times exp(reward / T) as N grows, for every value; and for every N in
    weighted form: exp(log_weight) estimates the normaliser E[exp(reward / T)] without bias, and
    samples so weighted represent that law.

    Attributes:
        n: N.
        temperature: T, in the unit of the reward.
        threshold: Resample below this share of effective particles: 0 never, 1 always.
        value: Of particles under way; a good one saves particles, a bad one is made up for.
    """

    n: int = 16
    temperature: float = 1.0
    threshold: float = 0.5
    value: Value = field(default_factory=Guessed)

    def __post_init__(self) -> None:
        check_at_least(1, n=self.n)
        check_temperature(self.temperature, zero="svdd")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {self.threshold}.")

    def search(self, run: Run, reward: Reward, key: Key) -> Found:
        """Run N particles a row to their end."""
        hunt = begun(run, reward, key)
        streams = hunt.streams(self.n)
        state = hunt.start(streams)
        total = torch.zeros_like(key.seed, dtype=torch.float64)
        since = total[:, None].expand(-1, self.n)
        while True:
            state = hunt.advance(state, streams, 1)
            value, state = ahead(hunt, self.value, state, streams, self.temperature)
            now = value.view(-1, self.n) / self.temperature
            weights = finite(now - since)
            uniform = hunt.choices(state.step)
            if state.step == run.steps:
                last = finite(total + _mean(weights))
                return hunt.found(state, value, drawn(weights, uniform), last)
            poor = resampling.effective(_live(weights)) < self.threshold * self.n
            own = torch.arange(self.n, device=now.device).expand_as(now)
            index = torch.where(poor[:, None], resampling.systematic(_live(weights), uniform), own)
            total = torch.where(poor, finite(total + _mean(weights)), total)
            since = torch.where(poor[:, None], now.gather(1, index), since)
            state = hunt.kept(state, index, self.n)


def _mean(weights: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    return weights.logsumexp(1) - math.log(weights.shape[1])


def _live(weights: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Return equal weights where none is above 0."""
    return torch.where((weights == -torch.inf).all(1, keepdim=True), 0.0, weights)
