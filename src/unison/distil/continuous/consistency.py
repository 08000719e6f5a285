"""Consistency models: a network that answers with the end of the flow, from any level.

Two points of one path of the probability-flow ODE must be answered alike, and at level 0 the answer
is the event itself; so f(y, s) is the flow's end (Song et al., 2023, arXiv:2303.01469). The pair
comes from a teacher, by one step of Heun's rule, or from an event and noise that are shared by both
(consistency training; Song and Dhariwal, 2024, arXiv:2310.14189). Every prediction but ``clean``
answers with the event itself at level 0, whatever the network says (Geng et al., 2024,
arXiv:2406.14548), so students are ordinary models that every solver can ask.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.noise import noise_like
from unison.distil.continuous.pupil import (
    Draw,
    Mover,
    OnStep,
    check_counts,
    check_levels,
    graduate,
    key_of,
    network_of,
    noise_of,
    pupil,
    told,
)
from unison.event_denoising import Preconditioned, over
from unison.prob import rng
from unison.prob.rng import Key
from unison.train.config import Optimizer
from unison.train.ema import Average
from unison.types import Event, EventDenoiser, Law, Level

SITE_INTERVAL, SITE_RENOISE = 0x7FFFFF89, 0x7FFFFF8A


@dataclass(frozen=True)
class Consistency:
    """How a student learns.

    Attributes:
        low: Lowest level of the grid above 0.
        high: Highest level.
        rho: The grid has equal steps in s^(1 / rho).
        first: Intervals of the grid at first.
        last: Intervals at most; they double along the run.
        mean: Of log s, around which intervals are drawn.
        std: Of log s.
        huber: Below this share of sqrt(numbers in an event) errors count squared, above linearly.
        target: Who answers at the lower level: the same weights, without gradient, or an average.
        decay: Of that average.
        ema: Decay of the average of weights that is returned; 0 for the last weights.
        batch_size: Events a step.
        steps: Steps.
        optimizer: How weights move.
        seed: Names events, noise and intervals.
    """

    low: float = 0.01
    high: float = 20.0
    rho: float = 7.0
    first: int = 10
    last: int = 160
    mean: float = -0.4
    std: float = 1.6
    huber: float = 0.00054
    target: Literal["same", "ema"] = "same"
    decay: float = 0.95
    ema: float = 0.99
    batch_size: int = 128
    steps: int = 2000
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(lr=2e-3, warmup=20, schedule="cosine")
    )
    seed: int = 0

    def __post_init__(self) -> None:
        check_levels("consistency", self.low, self.high)
        check_counts(
            "consistency",
            {"first": self.first, "batch_size": self.batch_size, "steps": self.steps},
        )
        if self.last < self.first:
            raise ValueError(
                f"consistency.last must be at least first={self.first}, got {self.last}."
            )
        if not (self.rho > 0 and self.std > 0 and self.huber > 0):
            raise ValueError(
                "consistency.rho, std and huber must be above 0, got "
                f"{self.rho}, {self.std} and {self.huber}."
            )
        if not (0 <= self.decay < 1 and 0 <= self.ema < 1):
            raise ValueError(
                f"consistency.decay and ema must be in [0, 1), got {self.decay} and {self.ema}."
            )

    def intervals(self, done: int) -> int:
        """Return how fine the grid is after ``done`` steps: as many steps on each doubling."""
        doublings = int(math.log2(self.last / self.first)) + 1
        each = math.ceil(self.steps / doublings)
        return min(self.first << (done // each), self.last)

    def grid(self, done: int) -> Levels:
        """Return the rising levels of the grid after ``done`` steps, from 0."""
        count = self.intervals(done)
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (
            0.0,
            *((low + (high - low) * i / max(1, count - 1)) ** self.rho for i in range(count - 1)),
            self.high,
        )


def pseudo_huber(off: Event, scale: float) -> Float[Tensor, " B"]:
    """Return sqrt(|off|^2 + c^2) - c of each row, c = scale sqrt(numbers in a row)."""
    flat = off.flatten(1)
    c = scale * flat.shape[1] ** 0.5
    return (flat.square().sum(1) + c**2).sqrt() - c


def answered(model: EventDenoiser, y: Event, level: Level) -> Event:
    """Return the student's answer; at level 0, where no network is asked, the event itself."""
    clean = level <= 0
    answer = model(y, torch.where(clean, torch.ones_like(level), level))
    return torch.where(over(clean.to(y.dtype), y) > 0, y, answer.to(y.dtype))


def walked(teacher: EventDenoiser, y: Event, ends: tuple[Level, Level]) -> Event:
    """Take each row down its own interval of the teacher's ODE, by Heun's rule.

    To level 0 the slope at the start alone is used: that is the teacher's answer.

    Args:
        teacher: Who denoises.
        y: The rows at the first level of ``ends``.
        ends: Where each row stands, above 0, and where it is to go.
    """
    high, low = ends
    first = (y - teacher(y, high).to(y.dtype)) / over(high, y)
    step = over(low - high, y)
    there = y + step * first
    safe = torch.where(low > 0, low, high)
    second = (there - teacher(there, safe).to(y.dtype)) / over(safe, y)
    slope = torch.where(over(low, y) > 0, (first + second) / 2, first)
    return y + step * slope


def consistency_loss(
    student: EventDenoiser,
    target: EventDenoiser,
    pair: tuple[Event, Event],
    ends: tuple[Level, Level],
    huber: float = 0.00054,
) -> Float[Tensor, ""]:
    """Return the mean distance of two answers, over the width of their interval.

    Args:
        student: Answers at the higher level, with a gradient.
        target: Answers at the lower level.
        pair: Points of one path at both levels.
        ends: Both levels of each row; the lower may be 0.
        huber: Of ``pseudo_huber``.
    """
    (upper, lower), (high, low) = pair, ends
    with torch.no_grad():
        there = answered(target, lower, low)
    off = student(upper, high).to(there.dtype) - there
    return (pseudo_huber(off, huber) / (high - low).to(off.dtype)).mean().float()


def consistency(
    begin: Preconditioned,
    draw: Draw,
    config: Consistency,
    teacher: EventDenoiser | None = None,
    on_step: OnStep | None = None,
) -> Preconditioned:
    """Return a student that answers with the flow's end.

    Args:
        begin: Whose weights it begins with: the teacher, if it is a network; left as it is.
        draw: Clean events.
        config: Grid, loss and schedule.
        teacher: Whose ODE is followed (distillation); ``None`` for pairs that share an event and
            noise (training).
        on_step: Observer.

    Raises:
        ValueError: The model predicts clean events, which at level 0 are not the event itself; or
            gradients stayed not finite.
    """
    if begin.prediction == "clean":
        raise ValueError(
            "a consistency student must answer with the event itself at level 0, and one of "
            "prediction 'clean' need not; choose 'edm', 'flow', 'velocity', 'noise' or 'score'."
        )
    student = replace(pupil(begin), span=(config.low, config.high))
    network = network_of(student)
    mover = Mover(network, config.optimizer, config.steps)
    kept = Average(network, config.ema)
    lagging = Average(network, config.decay) if config.target == "ema" else None
    behind = student if lagging is None else pupil(student)
    for done in range(config.steps):
        if lagging is not None:
            _load(behind, lagging.weights)
        key = key_of(config.seed, done, config.batch_size)
        guide = None if teacher is None else told(teacher, draw, key)
        pair, ends = _pair(draw, config, (key, done), guide)
        ask, target = told(student, draw, key), told(behind, draw, key)
        loss = mover.move(consistency_loss(ask, target, pair, ends, config.huber))
        kept.update(network, done)
        if lagging is not None:
            lagging.update(network, done)
        if on_step is not None:
            on_step(done + 1, loss)
    kept.swap(network)
    return graduate(student)


def _pair(
    draw: Draw, config: Consistency, at: tuple[Key, int], teacher: EventDenoiser | None
) -> tuple[tuple[Event, Event], tuple[Level, Level]]:
    key, done = at
    events = draw(key)
    noise = noise_of(events, key)
    grid = torch.tensor(config.grid(done), dtype=torch.float64)
    place = drawn_intervals(grid, config, rng.uniform(key, SITE_INTERVAL, 1)[:, 0])
    low, high = (grid[at].to(events) for at in (place, place + 1))
    upper = events + over(high, events) * noise
    if teacher is None:
        lower = events + over(low, events) * noise
    else:
        with torch.no_grad():
            lower = walked(teacher, upper, (high, low))
    return (upper, lower), (high, low)


def drawn_intervals(
    grid: Float[Tensor, " N"], config: Consistency, shares: Float[Tensor, " B"]
) -> Tensor:
    """Return an interval of the grid for each row: as often as log s of its end is normal there.

    Args:
        grid: Rising levels.
        config: Mean and deviation of log s.
        shares: A uniform for each row.
    """
    ends = (grid.log() - config.mean) / config.std  # -inf at level 0
    masses = torch.special.ndtr(ends).diff()
    total = masses.cumsum(0)
    return torch.searchsorted(total / total[-1], shares.contiguous()).clamp(max=len(masses) - 1)


@torch.no_grad()
def _load(model: Preconditioned, weights: Sequence[Tensor]) -> None:
    for mine, theirs in zip(network_of(model).parameters(), weights, strict=True):
        mine.copy_(theirs)


@dataclass(frozen=True)
class ConsistencySteps:
    """Multistep consistency sampling: answer, add fresh noise of the next level, answer again.

    The law is that of the student's answers; each further step mends some of what the first one
    got wrong, and makes sharper samples than the student's flow if the student is not exact
    (arXiv:2303.01469, algorithm 1). Denoisers that are no consistency models give their means.
    """

    law: ClassVar[Law] = Law.BIASED

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Answer, and go back up to the next level."""
        level, to = levels[key.step : key.step + 2]
        mean = asked(denoise, state.x, level).mean
        return State(mean + to * noise_like(state.x, key, SITE_RENOISE))
