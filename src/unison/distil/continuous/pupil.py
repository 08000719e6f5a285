"""How does a network of continuous data learn without a folder? A copy of it, its steps, its data.

The methods of this package are functions: they return a trained copy and leave what they were
given as it was. Equal arguments give equal weights on the same machine: every draw is named by
(seed, step).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.event_denoising import Preconditioned, over
from unison.prob import rng
from unison.prob.rng import Key
from unison.train import optim, step
from unison.train.config import Optimizer
from unison.types import Event, EventDenoiser, Level

SITE_EVENT, SITE_NOISE, SITE_UNSAID = 0x7FFFFF80, 0x7FFFFF81, 0x7FFFFF82
Draw = Callable[[Key], Event]  # one event for each row of a key
OnStep = Callable[[int, float], None]  # steps done, loss
Model = TypeVar("Model", bound=EventDenoiser)

_SKIPPED = 20  # steps in a row whose gradient may be not finite


@dataclass(frozen=True)
class OfEvents:
    """Draws from given events, each as likely.

    Attributes:
        events: The data.
        labels: A class of each event, which models with classes are told; ``None`` for none.
        unsaid: Probability that a drawn event's class is left unsaid.
    """

    events: Event
    labels: Int[Tensor, " N"] | None = None
    unsaid: float = 0.1

    def __post_init__(self) -> None:
        if not len(self.events):
            raise ValueError("there are no events to draw from; give at least one.")
        if self.labels is not None and len(self.labels) != len(self.events):
            raise ValueError(
                f"{len(self.events)} events need as many labels, got {len(self.labels)}."
            )

    def __call__(self, key: Key) -> Event:
        """Draw one event for each row of the key."""
        return self.events[self._rows(key)]

    def labels_of(self, key: Key) -> Int[Tensor, " B"] | None:
        """Return the classes of the events that the key draws, -1 where they are left unsaid."""
        if self.labels is None:
            return None
        said = rng.uniform(key, SITE_UNSAID, 1)[:, 0] >= self.unsaid
        chosen = self.labels[self._rows(key)]
        return torch.where(said.to(chosen.device), chosen, -1)

    def _rows(self, key: Key) -> Tensor:
        u = rng.uniform(key, SITE_EVENT, 1)[:, 0]
        chosen = (u * len(self.events)).long().clamp(max=len(self.events) - 1)
        return chosen.to(self.events.device)


def told(model: Model, draw: Draw, key: Key) -> Model:
    """Return a model that is told the classes of the events a key draws, if they have any."""
    if not (isinstance(draw, OfEvents) and isinstance(model, Preconditioned)):
        return model
    return cast("Model", replace(model, label=draw.labels_of(key)))


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
        self.done = self.in_a_row = self.count = 0
        self.total: Tensor | float = 0.0

    def move(self, loss: Float[Tensor, ""]) -> float:
        """Take a step down a mean loss; return its value.

        Raises:
            ValueError: Too many gradients in a row were not finite.
        """
        self.add(loss)
        return self.step()

    def add(self, loss: Float[Tensor, ""]) -> None:
        """Gather the gradient of one of several losses whose mean the next step goes down."""
        loss.backward()
        self.total, self.count = self.total + loss.detach(), self.count + 1

    def step(self) -> float:
        """Take a step down the mean of the losses that were gathered; return its value.

        Raises:
            ValueError: Too many gradients in a row were not finite.
        """
        loss = torch.as_tensor(self.total) / self.count
        count = torch.full_like(loss, self.count)
        share = optim.rate(self.settings, self.done, self.steps)
        outcome = step.move(self.network, self.optimizers, self.settings, share, (loss, count))
        self.done, self.in_a_row = self.done + 1, self.in_a_row + 1 if outcome.skipped else 0
        self.total, self.count = 0.0, 0
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
