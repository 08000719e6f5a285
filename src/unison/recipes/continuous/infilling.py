"""How far is each way of infilling from the exact conditional law? A Gaussian of tracks knows.

Pitches of several voices over a few times, standardised, are fitted with one Gaussian, whose
denoiser and whose conditional law of missing tracks given the others are exact. What is left is the
error of the way to condition: replacement does not sample the conditional law, and by how much is a
number here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unison.decode.continuous import Ancestral, solve
from unison.decode.continuous.grids import LogSNR, Span
from unison.decode.continuous.guidance import Masked, Measurement, PiGDM, RePaint, Replaced
from unison.exact.mixtures import Mixture, gaussian
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import EDM
from unison.search.posterior import Ensemble
from unison.types import Estimate, Event, EventDenoiser

Points = Float[Tensor, "_N D"]  # what is given and what is drawn, of unlike numbers
Guide = Callable[[EventDenoiser, Measurement], EventDenoiser]

SITE_START = 0x7FFFFD22
NOISE = 0.05  # of what is given, in standard deviations of the data
_RIDGE = 1e-3  # added to the fitted covariance: a few hundred windows leave it singular


class Way(NamedTuple):
    """A way to infill.

    Attributes:
        guide: What makes of a denoiser one that knows what is given.
        times: How often each step is taken, with as many fewer steps.
    """

    guide: Guide
    times: int = 1


class Course(NamedTuple):
    """Where a drawing goes.

    Attributes:
        shape: Of an event.
        evaluations: Of the denoiser on each row.
        high: First level.
        low: Last level above 0.
    """

    shape: tuple[int, ...]
    evaluations: int = 60
    high: float = 20.0
    low: float = 0.02

    def levels(self, intervals: int) -> tuple[float, ...]:
        """Return equal steps in log s, and the denoiser's answer at the end."""
        return (*LogSNR().levels(Span(self.high, self.low, EDM()), intervals), 0.0)


class Miss(NamedTuple):
    """How far draws are from the exact conditional law, in its own standard deviations.

    Attributes:
        mean: Root mean square over missing elements of the error of the mean.
        variance: Mean square distance from the exact mean; 1 if draws are exact.
    """

    mean: Estimate
    variance: Estimate


def ways(variance: float) -> Mapping[str, Way]:
    """Return ways to infill that ask the denoiser equally often.

    PiGDM also goes back through it, which costs about as much again. DPS with its likelihood as
    wide as the data leave it is the same for masks.

    Args:
        variance: Of the data.
    """
    return {
        "replacement": Way(Replaced),
        "RePaint": Way(Replaced, 5),
        "PiGDM": Way(partial(PiGDM, variance=variance)),
    }


def filled(way: Way, denoise: EventDenoiser, seen: Measurement, course: Course, key: Key) -> Event:
    """Draw events that agree with what is given, one for each row of the key."""
    solver = RePaint(Ancestral(), way.times) if way.times > 1 else Ancestral()
    levels = course.levels(max(1, (course.evaluations - 1) // way.times))
    size = torch.Size(course.shape).numel()
    noise = rng.normal(key, SITE_START, size).to(seen.seen).view(-1, *course.shape)
    return solve(solver, levels, way.guide(denoise, seen), course.high * noise, key).x.detach()


def fitted(points: Points) -> Mixture:
    """Return the Gaussian of points, which should be of mean 0 and variance 1."""
    away = points.double() - points.double().mean(0)
    covariance = away.T @ away / (len(points) - 1)
    ridge = _RIDGE * torch.eye(points.shape[1], dtype=torch.float64)
    return gaussian(points.double().mean(0), covariance + ridge)


def misses(
    law: Mixture, given: Points, mask: Bool[Tensor, " D"], draws: int, evaluations: int
) -> dict[str, Miss]:
    """Return how far every way is from the conditional law of a Gaussian.

    Args:
        law: One Gaussian.
        given: Events whose masked elements are given, with noise ``NOISE``.
        mask: True where given.
        draws: For each of them.
        evaluations: Of the denoiser on each draw.
    """
    rows = given.double().repeat_interleave(draws, 0)
    seen = Measurement(Masked(mask[None]), rows * mask, NOISE)
    course = Course((len(mask),), evaluations)
    key = Key(rng.rows(0, 0, len(rows)))
    every = dict(ways(1.0))
    every["PiGDM, Tweedie"] = Way(partial(PiGDM, covariance="tweedie"))
    drawn = {name: filled(way, law, seen, course, key) for name, way in every.items()}
    found = Ensemble(particles=64).sample(
        law, seen, course.levels(evaluations - 1), course.shape, key
    )
    drawn["ensemble of 64"] = found.draw(key, 1)[:, 0]
    return {name: _miss(law, given.double(), mask, x) for name, x in drawn.items()}


def _miss(law: Mixture, given: Points, mask: Bool[Tensor, " D"], drawn: Points) -> Miss:
    exact = [law.posterior(_rows(mask), row[mask], NOISE) for row in given]
    means = torch.stack([one.means[0] for one in exact])[:, ~mask]
    root = torch.linalg.cholesky(exact[0].covariances[0][~mask][:, ~mask])
    away = drawn.view(len(given), -1, len(mask))[..., ~mask] - means[:, None]
    white = torch.linalg.solve_triangular(root, away.flatten(0, 1).T, upper=False).T
    white = white.view(len(given), -1, white.shape[1])
    draws = white.shape[1]
    noise = white.var(1) / draws  # what chance alone adds to a squared mean
    rows = (white.mean(1).square() - noise).mean(1)
    squares = white.square().mean((1, 2))
    return Miss(_root(rows), _mean(squares))


def _rows(mask: Bool[Tensor, " D"]) -> Float[Tensor, "M D"]:
    return torch.eye(len(mask), dtype=torch.float64)[mask]


def _mean(values: Float[Tensor, " R"]) -> Estimate:
    error = float(values.std() / len(values) ** 0.5)
    return Estimate(float(values.mean()), error, len(values), "exact variances")


def _root(squares: Float[Tensor, " R"]) -> Estimate:
    mean = _mean(squares)
    value = max(mean.value, 0.0) ** 0.5
    error = mean.stderr / (2 * max(value, mean.stderr**0.5))  # the slope of the root
    return Estimate(value, error, len(squares), "exact standard deviations")
