"""VSD and SDS: events that a teacher likes, in a whole law of them or each for itself.

Noise is added to generated events x, and they move along weight(s) (noise of the teacher - noise
of the rival) / scale, where the rival denoises the law of the events themselves. That is the
Wasserstein gradient flow of KL(q_s || p_s) (Wang et al., 2023, ProlificDreamer, arXiv:2305.16213).
With the noise that was added in the rival's place it is SDS (Poole et al., 2023,
arXiv:2209.14988): every event seeks a mode by itself, and diversity is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from unison.distil.continuous.particles import RIVALS, Rival, descended
from unison.distil.continuous.pupil import (
    Mover,
    OnStep,
    check_counts,
    denoising_loss,
    graduate,
    key_of,
    network_of,
    noise_of,
    pupil,
)
from unison.event_denoising import Preconditioned, over
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import GaussianProcess, VariancePreserving
from unison.train.config import Optimizer
from unison.types import Event, EventDenoiser, Level

SITE_TIME, SITE_RIVAL_TIME, SITE_RIVAL_NOISE = 0x7FFFFF83, 0x7FFFFF84, 0x7FFFFF85


@dataclass(frozen=True)
class VSD:
    """How events are moved.

    Attributes:
        rival: Who denoises the generated law: exact for the events as a cloud, each for SDS.
        process: Whose times are drawn.
        earliest: First time that is drawn.
        latest: Last time.
        late: Last time once ``settle`` of the steps are done: details come after the composition.
        settle: Share of the steps.
        lr: Learning rate of the events at first.
        steps: Steps.
        seed: Names the noise.
    """

    rival: Literal["exact", "each"] = "exact"
    process: GaussianProcess = field(default_factory=VariancePreserving)
    earliest: float = 0.02
    latest: float = 0.98
    late: float = 0.5
    settle: float = 0.5
    lr: float = 0.05
    steps: int = 800
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts("vsd", {"steps": self.steps})
        if not 0 < self.earliest < min(self.late, self.latest) <= self.latest <= 1:
            raise ValueError(
                "0 < vsd.earliest < vsd.late, vsd.latest <= 1 is needed, got "
                f"{self.earliest}, {self.late} and {self.latest}."
            )
        if self.rival not in RIVALS:
            raise ValueError(f"unknown rival {self.rival!r}; known: {', '.join(RIVALS)}.")
        if not (self.lr > 0 and 0 <= self.settle <= 1):
            raise ValueError(
                f"vsd.lr must be above 0 and vsd.settle in [0, 1], got {self.lr}, {self.settle}."
            )

    def level(self, shares: Level, done: int) -> Level:
        """Return the levels at these shares of the times that are drawn after ``done`` steps."""
        last = self.late if done >= self.settle * self.steps else self.latest
        return self.process.level(self.earliest + shares * (last - self.earliest))


def gradient(
    target: EventDenoiser, rival: EventDenoiser, events: Event, noisy: tuple[Level, Event]
) -> Event:
    """Return the direction in which events leave the rival's law and enter the target's, negated.

    It is s^2 / (1 + s^2) (noise as the target has it - noise as the rival has it), zero wherever
    both laws agree.

    Args:
        target: The teacher.
        rival: The denoiser of the generated law.
        events: What was generated.
        noisy: The level of each row and the noise that is added.
    """
    level, noise = noisy
    y = events + over(level, events) * noise
    weight = over(level / (1 + level.square()), events)  # the weight over s: means differ by s
    return weight * (rival(y, level).to(y.dtype) - target(y, level).to(y.dtype))


def vsd(
    target: EventDenoiser,
    start: Event,
    config: VSD,
    rival: Rival | None = None,
    on_step: OnStep | None = None,
) -> Event:
    """Move events until they are samples of the target (VSD), or its modes (SDS).

    Args:
        target: The teacher.
        start: Where the events begin.
        config: How they move.
        rival: Who denoises the generated law instead, for example ``Learning``; ``None`` for what
            the configuration says.
        on_step: Observer.
    """
    known = RIVALS[config.rival] if rival is None else rival

    def uphill(events: Event, done: int) -> Event:
        key = key_of(config.seed, done, len(events))
        shares = rng.uniform(key, SITE_TIME, 1)[:, 0].to(events)
        level = config.level(shares, done)
        return gradient(target, known(events, key), events, (level, noise_of(events, key)))

    return descended(start, uphill, (config.lr, config.steps), on_step)


def rendered_loss(
    target: EventDenoiser, rival: EventDenoiser, events: Event, noisy: tuple[Level, Event]
) -> Tensor:
    """Return a number whose gradient at a generator's weights is that of VSD.

    Args:
        target: The teacher.
        rival: The denoiser of the generated law.
        events: What the generator made, with a gradient.
        noisy: The level of each row and the noise that is added.
    """
    with torch.no_grad():
        up = gradient(target, rival, events.detach(), noisy)
    return (up * events).flatten(1).sum(1).mean()


class Learning:
    """A rival that is a network, trained on the events as they change.

    Args:
        model: Where it begins, for example the teacher.
        levels: Levels of each row, from uniforms.
        settings: How its weights move.
        steps: Of the whole run: schedules need them.
        updates: Steps it takes each time it is asked.
    """

    def __init__(
        self,
        model: Preconditioned,
        levels: Callable[[Level], Level],
        settings: Optimizer,
        steps: int,
        updates: int = 1,
    ) -> None:
        self.model, self.levels, self.updates = pupil(model), levels, updates
        self.mover = Mover(network_of(self.model), settings, steps * updates)

    def __call__(self, events: Event, key: Key) -> EventDenoiser:
        """Learn from the events, and return the denoiser."""
        for _ in range(self.updates):
            draws = Key(key.seed, self.mover.done)
            level = self.levels(rng.uniform(draws, SITE_RIVAL_TIME, 1)[:, 0].to(events))
            noise = noise_of(events, draws, SITE_RIVAL_NOISE)
            with torch.enable_grad():
                self.mover.move(denoising_loss(self.model, events, (level, noise)))
        return graduate(self.model)
