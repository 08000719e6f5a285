"""MMD finetuning: a sampler of few steps learns to draw what the data look like.

The maximum mean discrepancy of features of drawn and real events is minimised through all steps
of a fixed sampler (Aiello, Valsesia and Magli, 2023, MMD-DDM, arXiv:2301.07969). What learns is the
network, or two numbers a step. The estimator is the unbiased one (Gretton et al., 2012,
jmlr.org/papers/v13/gretton12a.html), so single values may be negative.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unison.decode.continuous import Levels, Solver, solve
from unison.decode.continuous.ddim import DDIM
from unison.distil.continuous.pupil import (
    Draw,
    Mover,
    OnStep,
    check_counts,
    graduate,
    key_of,
    network_of,
    pupil,
    told,
)
from unison.event_denoising import Preconditioned
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import Optimizer
from unison.types import Event, EventDenoiser, Level

SITE_START, SITE_FEATURE = 0x7FFFFF8B, 0x7FFFFF8C

Features = Float[Tensor, "N F"]
Others = Float[Tensor, "M F"]
Kernel = Callable[[Features, Others], Tensor]
Feature = Callable[[Event], Tensor]


@dataclass(frozen=True)
class Polynomial:
    """(<x, y> / F + 1)^degree over F features: of degree 3, the kernel of KID (arXiv:1801.01401).

    Attributes:
        degree: Moments up to this one are compared.
    """

    degree: int = 3

    def __call__(self, left: Features, right: Others) -> Tensor:
        """Return the kernel of every pair."""
        return (left @ right.mT / left.shape[1] + 1) ** self.degree


@dataclass(frozen=True)
class Radial:
    """The mean over bandwidths of exp(-|x - y|^2 / 2 b^2): zero distance for equal laws alone.

    Attributes:
        bandwidths: Each b, in the units of the features.
    """

    bandwidths: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if not self.bandwidths or min(self.bandwidths) <= 0:
            raise ValueError(f"bandwidths must be some numbers above 0, got {self.bandwidths}.")

    def __call__(self, left: Features, right: Others) -> Tensor:
        """Return the kernel of every pair."""
        ones = (left.square().sum(1)[:, None], right.square().sum(1)[None])
        square = (ones[0] + ones[1] - 2 * left @ right.mT).clamp(min=0)  # cdist has no slope at 0
        parts = [(-square / (2 * width**2)).exp() for width in self.bandwidths]
        return torch.stack(parts).mean(0)


KERNELS: Mapping[str, Callable[[], Kernel]] = {"polynomial": Polynomial, "radial": Radial}


def flat(events: Event) -> Features:
    """Return the numbers of each event as its features."""
    return events.flatten(1)


@dataclass(frozen=True)
class RandomFeatures:
    """Rectified random projections: features that nobody trained, for a second opinion.

    Attributes:
        count: How many.
        seed: Names the projections.
    """

    count: int = 64
    seed: int = 0

    def __call__(self, events: Event) -> Features:
        """Return the features of each event."""
        numbers = events.flatten(1)
        size = numbers.shape[1]
        drawn = rng.normal(Key(rng.rows(self.seed, 0, self.count)), SITE_FEATURE, size + 1)
        drawn = drawn.to(numbers)
        return torch.relu(numbers @ drawn[:, 1:].mT / size**0.5 + drawn[:, 0])


def mmd2(left: Features, right: Others, kernel: Kernel) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy of two laws, without bias.

    Raises:
        ValueError: A side has fewer than two rows.
    """
    if min(len(left), len(right)) < 2:
        raise ValueError(
            f"the discrepancy needs two rows on either side, got {len(left)} and {len(right)}."
        )
    return _within(left, kernel) + _within(right, kernel) - 2 * kernel(left, right).mean()


def _within(rows: Features, kernel: Kernel) -> Tensor:
    every = kernel(rows, rows)
    return (every.sum() - every.diagonal().sum()) / (len(rows) * (len(rows) - 1))


@dataclass(frozen=True)
class MMDFinetune:
    """How a sampler of few steps learns.

    Attributes:
        levels: The steps it takes; the last may be 0.
        solver: Who steps.
        spread: Standard deviation of the data: events begin at that of the first level and of the
            data together.
        feature: Of events, compared.
        second: Other features, never trained on: reported beside.
        kernel: Of features.
        batch_size: Events on either side for one estimate.
        accumulate: Estimates for one step of the weights.
        steps: Steps of the weights.
        optimizer: How they move.
        report: Events on either side of the numbers that are reported.
        seed: Names events and noise.
    """

    levels: Levels = (20.0, 3.0, 1.0, 0.3, 0.1, 0.0)
    solver: Solver = field(default_factory=DDIM)
    spread: float = 1.0
    feature: Feature = flat
    second: Feature = field(default_factory=RandomFeatures)
    kernel: Kernel = field(default_factory=Radial)
    batch_size: int = 128
    accumulate: int = 1
    steps: int = 100
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(lr=1e-3, warmup=5, schedule="cosine", clip=1.0)
    )
    report: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts("mmd", {"steps": self.steps, "accumulate": self.accumulate})
        if min(self.batch_size, self.report) < 2:
            raise ValueError(
                "mmd.batch_size and mmd.report must be at least 2, got "
                f"{self.batch_size} and {self.report}."
            )


@dataclass(frozen=True)
class Adjusted:
    """A denoiser whose answers are scaled and shifted at each level of a fixed sampler.

    Attributes:
        denoise: Who answers; gradients pass through it if it lets them.
        levels: The levels it is asked at, each with numbers of its own.
        scale: Added share of the answer at each level, for each number of an event.
        shift: What is added besides.
    """

    denoise: EventDenoiser
    levels: Levels
    scale: Float[Tensor, "S N"]
    shift: Float[Tensor, "S N"]

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the adjusted mean of every row."""
        mean = self.denoise(x, level)
        known = torch.tensor(self.levels, dtype=torch.float64, device=x.device)
        at = (known - level.double()[:, None]).abs().argmin(1)
        scale, shift = (part[at].view_as(mean).to(mean.dtype) for part in (self.scale, self.shift))
        return mean + scale * mean + shift


class Discrepancy(NamedTuple):
    """Squared discrepancies of drawn and held-out events.

    Attributes:
        trained: In the features that were trained on.
        second: In features that were not.
    """

    trained: float
    second: float


class Finetuned(NamedTuple):
    """What finetuning leaves behind.

    Attributes:
        denoise: The sampler's denoiser.
        before: How far its samples were from the data.
        after: How far they are.
    """

    denoise: EventDenoiser
    before: Discrepancy
    after: Discrepancy


def drawn(denoise: EventDenoiser, config: MMDFinetune, key: Key, like: Event) -> Event:
    """Draw one event for each row of the key, by the fixed sampler.

    Args:
        denoise: Who is asked.
        config: Levels and solver.
        key: One stream for each row.
        like: An event of each row, for shape, type and device.
    """
    noise = rng.normal(key, SITE_START, like[0].numel()).view_as(like).to(like)
    start = (config.levels[0] ** 2 + config.spread**2) ** 0.5 * noise
    return solve(config.solver, config.levels, denoise, start, key).x


def finetuned(
    model: Preconditioned, draw: Draw, config: MMDFinetune, on_step: OnStep | None = None
) -> Finetuned:
    """Return a copy of a model whose network learnt to draw in the steps of the configuration.

    Args:
        model: A trained model; left as it is.
        draw: Real events.
        config: Sampler, features and schedule.
        on_step: Told the steps done and the discrepancy of their events.

    Raises:
        ValueError: Gradients stayed not finite.
    """
    student = pupil(replace(model, gradients=True))
    network_of(student).eval()  # samplers know no dropout
    before, after = _taught((student, network_of(student)), draw, config, on_step)
    return Finetuned(graduate(student), before, after)


def adjusted(
    denoise: EventDenoiser, draw: Draw, config: MMDFinetune, on_step: OnStep | None = None
) -> Finetuned:
    """Return a denoiser whose answers are scaled and shifted at each step of the configuration.

    Args:
        denoise: Any model; left as it is.
        draw: Real events.
        config: Sampler, features and schedule.
        on_step: Told the steps done and the discrepancy of their events.

    Raises:
        ValueError: Gradients stayed not finite.
    """
    like = draw(key_of(config.seed, 0, 1))
    levels = tuple(level for level in config.levels if level > 0)
    zeros = torch.zeros(2, len(levels), like[0].numel(), device=like.device)
    free = nn.ParameterList(nn.Parameter(part.clone()) for part in zeros)
    student = Adjusted(denoise, levels, free[0], free[1])
    before, after = _taught((student, free), draw, config, on_step)
    return Finetuned(
        replace(student, scale=free[0].detach(), shift=free[1].detach()), before, after
    )


def discrepancy(denoise: EventDenoiser, draw: Draw, config: MMDFinetune) -> Discrepancy:
    """Return how far what a sampler draws is from data that nothing was trained on."""
    key = key_of(config.seed + 2, 0, config.report)
    real = draw(key)
    with torch.no_grad():
        ask = told(denoise, draw, key)
        found = drawn(ask, config, Key(rng.derived(key.seed, 1)), real)
    return Discrepancy(
        *(
            float(mmd2(feature(found), feature(real), config.kernel))
            for feature in (config.feature, config.second)
        )
    )


def _taught(
    learner: tuple[EventDenoiser, nn.Module],
    draw: Draw,
    config: MMDFinetune,
    on_step: OnStep | None,
) -> tuple[Discrepancy, Discrepancy]:
    """Train the weights of a denoiser, and return the discrepancies before and after."""
    student, network = learner
    before = discrepancy(student, draw, config)
    mover = Mover(network, config.optimizer, config.steps)
    for done in range(config.steps):
        for part in range(config.accumulate):
            key = key_of(config.seed, done * config.accumulate + part, config.batch_size)
            real = draw(key)
            through = Checkpointed(told(student, draw, key))
            made = drawn(through, config, Key(rng.derived(key.seed, 1), key.step), real)
            found = mmd2(config.feature(made), config.feature(real), config.kernel)
            mover.add(found.float())
        loss = mover.step()
        if on_step is not None:
            on_step(done + 1, loss)
    return before, discrepancy(student, draw, config)


@dataclass(frozen=True)
class Checkpointed:
    """A denoiser that is evaluated again on the way back, so that steps need not be remembered.

    Attributes:
        denoise: Who answers.
    """

    denoise: EventDenoiser

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the answer; its intermediate values are not kept."""
        return checkpoint(self.denoise, x, level, use_reentrant=False)  # pyright: ignore[reportReturnType]
