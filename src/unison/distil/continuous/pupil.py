"""How does a network of continuous data learn without a folder? A copy of it, its steps, its data.

The methods of this package are functions: they return a trained copy and leave what they were
given as it was. Equal arguments give equal weights on the same machine: every draw is named by
(seed, step).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unison.event_denoising import Preconditioned, over
from unison.prob import rng
from unison.prob.rng import Key
from unison.train import optim, step
from unison.train.config import Optimizer
from unison.types import Event, Level

SITE_EVENT, SITE_NOISE = 0x7FFFFF68, 0x7FFFFF69
Draw = Callable[[Key], Event]  # one event for each row of a key
OnStep = Callable[[int, float], None]  # steps done, loss

_SKIPPED = 20  # steps in a row whose gradient may be not finite


@dataclass(frozen=True)
class OfEvents:
    """Draws from given events, each as likely.

    Attributes:
        events: The data.
    """

    events: Event

    def __post_init__(self) -> None:
        if not len(self.events):
            raise ValueError("there are no events to draw from; give at least one.")

    def __call__(self, key: Key) -> Event:
        """Draw one event for each row of the key."""
        u = rng.uniform(key, SITE_EVENT, 1)[:, 0]
        chosen = (u * len(self.events)).long().clamp(max=len(self.events) - 1)
        return self.events[chosen.to(self.events.device)]


def pupil(model: Preconditioned) -> Preconditioned:
    """Return a copy of a model whose weights can move and whose answers carry gradients."""
    network = copy.deepcopy(network_of(model)).train()
    for weight in network.parameters():
        weight.requires_grad_(True)
    return replace(model, network=network, gradients=True)


def graduate(model: Preconditioned) -> Preconditioned:
    """Return a trained copy as solvers ask it: no dropout, no gradients."""
    network_of(model).eval()
    return replace(model, gradients=False)


def network_of(model: Preconditioned) -> nn.Module:
    """Return the model's network as a module.

    Raises:
        ValueError: It has no weights.
    """
    if not isinstance(model.network, nn.Module):
        raise ValueError(
            f"{type(model.network).__name__} has no weights to learn; give a torch module."
        )
    return cast("nn.Module", model.network)


class Mover:
    """Moves the weights of a network, by one loss after another.

    Args:
        network: Whose weights move.
        settings: How.
        steps: Of the whole run: schedules need them.
    """

    def __init__(self, network: nn.Module, settings: Optimizer, steps: int) -> None:
        self.network, self.settings, self.steps = network, settings, steps
        self.optimizers = optim.make(network, settings)
        self.done = self.in_a_row = 0

    def move(self, loss: Float[Tensor, ""]) -> float:
        """Take a step down a mean loss; return its value.

        Raises:
            ValueError: Too many gradients in a row were not finite.
        """
        loss.backward()
        one = torch.ones((), device=loss.device)
        share = optim.rate(self.settings, self.done, self.steps)
        outcome = step.move(
            self.network, self.optimizers, self.settings, share, (loss.detach(), one)
        )
        self.done, self.in_a_row = self.done + 1, self.in_a_row + 1 if outcome.skipped else 0
        if self.in_a_row >= _SKIPPED:
            raise ValueError(
                f"stopped after {self.done} steps: {_SKIPPED} gradients in a row were not finite; "
                "lower optimizer.lr or lengthen optimizer.warmup."
            )
        return outcome.loss

    def forget(self) -> None:
        """Drop the gradients that another's loss left behind."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def key_of(seed: int, number: int, rows: int) -> Key:
    """Return the streams of the rows of one training step."""
    return Key(rng.rows(seed, 0, rows), number)


def noise_of(x: Event, key: Key, site: int = SITE_NOISE) -> Event:
    """Draw standard normals of the shape and type of ``x``."""
    return rng.normal(key, site, x[0].numel()).view_as(x).to(x)


def between(shares: Level, low: float, high: float) -> Level:
    """Return levels at these shares of the way from ``low`` to ``high`` in log s."""
    return (math.log(low) + shares * math.log(high / low)).exp()


def denoising_loss(
    model: Preconditioned, events: Event, noisy: tuple[Level, Event]
) -> Float[Tensor, ""]:
    """Return the mean squared error of a model's clean events, of weight 1 / s^2 + 1 / spread^2.

    Args:
        model: Who is asked.
        events: Clean events.
        noisy: The level of each row and the noise that is added.
    """
    level, noise = noisy
    error = model(events + over(level, events) * noise, level) - events
    weight = over(level.double() ** -2 + model.spread**-2, events)
    return (weight * error.square()).mean().float()


def check_counts(name: str, counts: dict[str, int]) -> None:
    """Refuse settings below 1."""
    for field, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}.{field} must be at least 1, got {count}.")


def check_levels(name: str, low: float, high: float) -> None:
    """Refuse levels that are no range above 0."""
    if not 0 < low < high:
        raise ValueError(f"{name}: 0 < low < high is needed, got {low} and {high}.")
