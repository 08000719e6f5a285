"""What does an objective of continuous data see, and what does it return?"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Level, Ranged

SITE_NOISE, SITE_DROPPED = 0, 1

Labels = Int[Tensor, " B"]


class Squares(NamedTuple):
    """A sum of weighted squared errors, and over how many numbers; the mean is taken once.

    Attributes:
        total: In squared units of the scaled data, times the objective's weight. Differentiable.
        count: Numbers the sum is over: rows times the size of an event.
    """

    total: Float[Tensor, ""]
    count: Int[Tensor, ""]


class EventBatch(NamedTuple):
    """Clean events for one training or evaluation step.

    Attributes:
        events: x_0, or what is known of it.
        strata: One uniform per row in (0, 1), stratified over the *global* batch by whoever made
            it; objectives turn it into a level.
        label: A class of each row; ``None`` if there are none.
        beside: What else is known of each row, such as a degraded event.
        known: The level of the noise that is in ``events`` already, 0 for clean rows; ``None``
            if all are clean.
    """

    events: Event
    strata: Float[Tensor, " B"]
    label: Labels | None = None
    beside: Float[Tensor, "B ..."] | None = None
    known: Level | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "EventBatch":
        """Return the batch with every tensor in it changed: moved, or cut to some rows."""
        label, beside, known = (
            None if part is None else change(part) for part in (self.label, self.beside, self.known)
        )
        return EventBatch(change(self.events), change(self.strata), label, beside, known)


@runtime_checkable
class Bind(Protocol):
    """Makes a denoiser of the model that is trained, for rows with these conditions."""

    def __call__(
        self, label: Labels | None, beside: Float[Tensor, "B ..."] | None
    ) -> EventDenoiser:
        """Return the denoiser; label -1 says nothing."""
        ...


@runtime_checkable
class EventLoss(Protocol):
    """A loss of a denoiser of events."""

    def __call__(self, process: Any, bind: Bind, batch: EventBatch, key: Key) -> Squares:
        """Return the summed loss and over how many numbers it is summed."""
        ...


def bound(bind: Bind, batch: EventBatch, key: Key, dropout: float) -> EventDenoiser:
    """Return the denoiser of a batch, whose labels are left unsaid with a probability.

    A model that is sometimes told nothing can be guided (Ho and Salimans, 2022,
    arXiv:2207.12598).
    """
    label = batch.label
    if label is not None and dropout:
        unsaid = rng.uniform(key, SITE_DROPPED, 1)[:, 0] < dropout
        label = torch.where(unsaid, -1, label)
    return bind(label, batch.beside)


def noise_of(batch: EventBatch, key: Key) -> Event:
    """Draw a standard normal for every number of a batch, row by row."""
    events = batch.events
    return rng.normal(key, SITE_NOISE, events[0].numel()).to(events.dtype).view_as(events)


def span_of(denoise: EventDenoiser) -> tuple[float, float]:
    """Return the levels that a denoiser is to learn: those it says it knows, or all."""
    return denoise.span if isinstance(denoise, Ranged) else (0.0, float("inf"))


def summed(error: Event, weight: Level) -> Squares:
    """Return the sum of squared errors, each row with its weight."""
    rows = error.square().flatten(1).sum(1)
    count = torch.tensor(error.numel(), device=error.device)
    return Squares((weight.to(rows.dtype) * rows).sum(), count)


def check_share(name: str, share: float) -> None:
    """Refuse a probability outside [0, 1)."""
    if not 0 <= share < 1:
        raise ValueError(f"objective.{name} must be in [0, 1), got {share}.")
