"""What is a clean sample worth? Learning from few clean samples and many noisy ones.

A sample known at level n teaches nothing below n and nearly as much as a clean one far above it,
so that a tenth of clean data and the rest noisy can serve almost as all clean, and all noisy
cannot (Daras et al., 2024, arXiv:2411.02780). Here the statement is measured where everything is
known: Fisher information of a mixture, and denoisers that minimise the ambient loss
(``objectives.continuous.ambient``) in closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.continuous import solve
from unison.decode.continuous.heun import Heun
from unison.evaluate.continuous.deconvolution import begun
from unison.evaluate.continuous.products import averaged, noised
from unison.exact.distances import directions, sliced_wasserstein
from unison.exact.mixtures import Mixture, Points
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Estimate, Event, Level

SITE_BEGUN = 0x7FFFFC02


def information(law: Mixture, noise: float, key: Key) -> Float[Tensor, "P P"]:
    """Return the Fisher information of one sample with noise about the means of the components.

    E[g g^T], g the derivative of log p_n(x) by all means, averaged over a draw for each row of
    the key; equal keys make quotients of levels steady.
    """
    x = noised(law.sample(key), noise, key)
    size = x.shape[1]
    total = law.covariances + noise**2 * torch.eye(size, dtype=x.dtype)
    away = torch.linalg.solve(total, (x[:, None] - law.means)[..., None])[..., 0]
    shares = law.responsibilities(x, torch.full((len(x),), noise, dtype=x.dtype))
    slopes = (shares[..., None] * away).flatten(1)
    return slopes.T @ slopes / len(x)


def worth(law: Mixture, clean: int, noisy: int, noise: float, key: Key) -> float:
    """Return how many clean samples tell the means as well as these do together.

    Well is the summed variance of efficient estimates, tr I^-1; for one mean it is
    clean + noisy I(n) / I(0).
    """
    whole = information(law, 0.0, key)
    both = clean * whole + noisy * information(law, noise, key)
    trace = torch.linalg.inv(whole).diagonal().sum() / torch.linalg.inv(both).diagonal().sum()
    return trace.item()


@dataclass(frozen=True, eq=False)
class Regressed:
    """A denoiser that is a linear function of fixed features at each level of a grid.

    The features are shares of soft cells around centres, each alone and times y: those of an exact
    mixture.

    Attributes:
        centres: Of the cells.
        width: Of a cell without noise.
        tables: For each level, what its features are multiplied with.
    """

    centres: Float[Tensor, "K D"]
    width: float
    tables: dict[float, Tensor]

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean at a level that was learnt.

        Raises:
            ValueError: The level is another, or not the same for all rows.
        """
        asked = float(level[0])
        if asked not in self.tables or not bool((level == asked).all()):
            raise ValueError(
                f"this denoiser knows the levels {sorted(self.tables)}, one at a time; got {asked}."
            )
        return (self.features(x.double(), asked) @ self.tables[asked]).to(x.dtype)

    def features(self, y: Points, level: float) -> Float[Tensor, "N F"]:
        """Return the features of events at a level."""
        wide = level**2 + self.width**2
        shares = (-torch.cdist(y, self.centres).square() / (2 * wide)).softmax(1)
        scaled = y / (1 + level**2) ** 0.5
        both = torch.cat([torch.ones_like(y[:, :1]), scaled], 1)
        return (shares[..., None] * both[:, None]).flatten(1)


class Lesson(NamedTuple):
    """How the closed form learns.

    Attributes:
        levels: Falling, above 0; levels at which no sample is known are left out.
        cells: Soft cells.
        width: Of a cell without noise.
        copies: Noises for each sample and level.
        ridge: Added to the squares of features, for each sample.
    """

    levels: Sequence[float]
    cells: int = 24
    width: float = 0.3
    copies: int = 8
    ridge: float = 1e-4


def regressed(lesson: Lesson, seen: Points, known: Float[Tensor, " N"], key: Key) -> Regressed:
    """Return the least ambient loss over all tables, level by level.

    sum |(1 - a) D(x_s) + a x_s - x_n|^2 with a = n^2 / s^2 over samples known below s.

    Args:
        lesson: How.
        seen: x_n.
        known: n of each, 0 for clean ones.
        key: One random stream per sample.

    Raises:
        ValueError: No sample is known at any of the levels.
    """
    empty = Regressed(begun(seen, lesson.cells).means, lesson.width, {})
    tables = {}
    for number, level in enumerate(lesson.levels):
        below = known < level
        if not bool(below.any()):
            continue
        streams = Key(key.seed[below], number)
        tables[level] = _table(empty, lesson, (seen[below], known[below]), level, streams)
    if not tables:
        raise ValueError(f"every sample is noisier than the highest level, {lesson.levels[0]}.")
    return Regressed(empty.centres, empty.width, tables)


class Arm(NamedTuple):
    """A set of data to learn from.

    Attributes:
        name: For tables.
        clean: Samples without noise.
        noisy: Samples with noise.
    """

    name: str
    clean: int
    noisy: int


class Outcome(NamedTuple):
    """What an arm came to.

    Attributes:
        arm: Its data.
        distance: Sliced Wasserstein-2 of draws to fresh data, a mean over repetitions.
        worth: In clean samples, by Fisher information; 0 where only noisy ones are.
    """

    arm: Arm
    distance: Estimate
    worth: float


def arms(samples: int, share: float) -> tuple[Arm, ...]:
    """Return all clean, a share of them clean and the rest noisy, that share alone, all noisy."""
    few = round(share * samples)
    return (
        Arm("clean", samples, 0),
        Arm("mixed", few, samples - few),
        Arm("few clean", few, 0),
        Arm("noisy", 0, samples),
    )


def compared(
    law: Mixture, chosen: Sequence[Arm], noise: float, lesson: Lesson, repeats: int, draws: int
) -> tuple[Outcome, ...]:
    """Learn from each arm, draw with the model, and measure the distance to the law.

    Repetitions have data of their own and are the same for all arms.

    Args:
        law: Where data come from.
        chosen: What is learnt from.
        noise: n of noisy samples.
        lesson: How.
        repeats: Repetitions.
        draws: Events drawn of each model, and as many fresh ones to compare with.
    """
    ways = directions(Key(rng.rows(1, 0, 64)), law.means.shape[1])
    told = Key(rng.rows(2, 0, 4000))
    outcomes = []
    for arm in chosen:
        found = [_once(law, arm, noise, lesson, (repeat, draws)) for repeat in range(repeats)]
        gaps = [sliced_wasserstein(drawn, fresh, ways) for drawn, fresh in found]
        price = worth(law, arm.clean, arm.noisy, noise, told)
        outcomes.append(Outcome(arm, averaged(torch.stack(gaps), "units of x"), price))
    return tuple(outcomes)


def _once(
    law: Mixture, arm: Arm, noise: float, lesson: Lesson, run: tuple[int, int]
) -> tuple[Points, Points]:
    """Return what a model of the arm's data draws, and fresh data."""
    repeat, draws = run
    count = arm.clean + arm.noisy
    key = Key(rng.rows(100 + repeat, 0, count))
    known = torch.where(torch.arange(count) < arm.clean, 0.0, noise).double()
    clean = law.sample(key)
    added = noised(torch.zeros_like(clean), 1.0, key)
    model = regressed(lesson, clean + known[:, None] * added, known, Key(key.seed, 1))
    streams = Key(rng.rows(200 + repeat, 0, draws))
    levels = tuple(sorted(model.tables, reverse=True))
    start = levels[0] * rng.normal(streams, SITE_BEGUN, clean.shape[1])
    drawn = solve(Heun(), (*levels, 0.0), model, start, streams).x
    return drawn, law.sample(Key(rng.rows(300 + repeat, 0, draws)))


def _table(
    empty: Regressed, lesson: Lesson, data: tuple[Points, Tensor], level: float, key: Key
) -> Tensor:
    seen, known = data
    added = (level**2 - known.square()).sqrt()[:, None]
    share = (known / level).square()[:, None]
    squares, products = torch.zeros(()), torch.zeros(())
    for copy in range(lesson.copies):
        streams = Key(rng.derived(key.seed, copy), key.step)
        x = seen + added * noised(torch.zeros_like(seen), 1.0, streams)
        features = (1 - share) * empty.features(x, level)
        squares = squares + features.T @ features
        products = products + features.T @ (seen - share * x)
    ridge = lesson.ridge * lesson.copies * len(seen)
    return torch.linalg.solve(
        squares + ridge / lesson.cells * torch.eye(len(squares), dtype=squares.dtype), products
    )
