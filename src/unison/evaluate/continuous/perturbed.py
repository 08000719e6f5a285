"""How likely are events, and how much noise do singular data need before likelihood says anything?

Data on a manifold have no density: the likelihood of a model that may be sharp has no upper end,
and its maximum says nothing of the law (Chae, Kim, Kim and Lin, 2023, arXiv:2105.04046). With noise
of level s~ added to the data it has one, and a model x_0 = f(z) whose likelihood is that of
f(z) + s~ noise gives f when the noise is dropped. Small s~ leaves the singularity, large s~ hides
what is finer: the distance to the law is least between. A diffusion model's least level is such an
s~: never train below it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unison.decode.continuous.api import at
from unison.evaluate.continuous.products import (
    answer,
    averaged,
    check_probes,
    check_rising,
    noised,
    traces,
)
from unison.exact.mixtures import Mixture, Points
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser


def log_likelihood(
    denoise: EventDenoiser,
    y: Event,
    levels: Sequence[float],
    key: Key,
    probes: int = 0,
    spread: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return log p_s(y) of events at the first level, by the flow's change of variables, float64.

    Along dy/du = y - D, u = log s, the density falls by div(y - D) = N - tr dD/dy (Song et al.,
    2021, arXiv:2011.13456). The flow is followed upwards with RK4, one step and four evaluations
    between two levels; at the last level the law is taken for a normal one around
    the mean that the model knows.

    Args:
        denoise: The model, differentiable; answers in float64 are kept.
        y: Events with noise of the first level in them.
        levels: Rising from above 0; the last far above the spread of the data.
        key: One random stream per row; its signs are the same at every level.
        probes: Random directions; 0 builds the Jacobian, exact but for the steps.
        spread: Standard deviation of the data, for the law at the last level.

    Raises:
        ValueError: The levels do not rise from above 0, or probes are below 0.
    """
    check_probes(probes)
    check_rising(levels)
    y, heights, total = y.double(), [math.log(level) for level in levels], y.new_zeros(len(y))
    total = total.double()
    for low, high in pairwise(heights):
        width, slopes, spreads = high - low, [], []
        for share in (0.0, 0.5, 0.5, 1.0):
            shown = y + share * width * slopes[-1] if slopes else y
            with answer(denoise, shown, math.exp(low + share * width)) as found:
                slopes.append((found.asked - found.given).detach())
                spreads.append(y[0].numel() - traces(found, key, probes).mean(0))
        for part, slope, widening in zip((1, 2, 2, 1), slopes, spreads, strict=True):
            y, total = y + part * width / 6 * slope, total + part * width / 6 * widening
    top = levels[-1]
    with torch.no_grad():
        away = y - denoise(y, at(top, y))
    # of normal data with variance v, y - D is s^2 / (s^2 + v) of the distance to their mean
    variance = top**2 + spread**2
    quadratic = away.square() * variance / top**4 + math.log(2 * math.pi * variance)
    return total - quadratic.flatten(1).sum(1) / 2


class Trial(NamedTuple):
    """What one level of added noise gave.

    Attributes:
        noise: s~.
        own: Held-out log-likelihood with s~ in data and model. Levels cannot be compared by it:
            where a model may be sharp it has no upper end.
        common: The same with one level for all: what levels are chosen by.
        distance: Wasserstein-1 of draws, their noise dropped, to held-out data without noise.
        law: What was fitted, without noise.
    """

    noise: float
    own: Estimate
    common: Estimate
    distance: float
    law: Mixture


@runtime_checkable
class Fit(Protocol):
    """Fits the law of x_0 to samples with noise of one known level."""

    def __call__(self, points: Points, noise: float) -> Mixture:
        """Return the law, its noise dropped."""
        ...


def scanned(
    fit: Fit,
    learnt: Points,
    kept: Float[Tensor, "M D"],
    noises: Sequence[float],
    common: float,
    seed: int = 0,
) -> tuple[Trial, ...]:
    """Fit a law to data with each level of noise added, and judge it on held-out data.

    Args:
        fit: Any method that knows the noise, such as ``deconvolution.fitted_alike``.
        learnt: Clean data to fit.
        kept: Held-out clean data.
        noises: s~, for example a logarithmic grid.
        common: The level that laws are compared at by likelihood: the finest detail wanted.
        seed: Names the noise.

    Raises:
        ValueError: A level is not above 0.
    """
    if not min([common, *noises]) > 0:
        raise ValueError(f"levels must be above 0, got {tuple(noises)} and {common}.")
    fresh, other = (Key(rng.rows(seed, 0, len(part))) for part in (learnt, kept))
    trials = []
    for number, noise in enumerate(noises):
        law = fit(noised(learnt, noise, fresh), noise)
        draws = law.sample(Key(other.seed, number))
        own, alike = (_held_out(law, kept, level, other) for level in (noise, common))
        trials.append(Trial(noise, own, alike, wasserstein_one(draws, kept), law))
    return tuple(trials)


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest held-out likelihood at the common level."""
    return max(trials, key=lambda trial: trial.common.value)


def wasserstein_one(left: Points, right: Float[Tensor, "M D"]) -> float:
    """Return the least mean distance of a matching of two equally large sets.

    Raises:
        ValueError: The sets are not equally large.
    """
    if left.shape != right.shape:
        raise ValueError(
            f"a matching needs two sets of one shape, got {tuple(left.shape)} and "
            f"{tuple(right.shape)}."
        )
    costs = torch.cdist(left.double(), right.double()).cpu().numpy()
    return float(costs[linear_sum_assignment(costs)].mean())


def _held_out(law: Mixture, kept: Points, level: float, key: Key) -> Estimate:
    # another step: draws of the model and noise of the data are never the same numbers
    y = noised(kept.double(), level, Key(key.seed, 1))
    return averaged(law.log_prob(y, at(level, y)), "nats/event")
