"""What are samples of continuous data, how are they scaled, and which are held out?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.data.holdout import check_holdout
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

SITE_NOISY, SITE_NOISE = 41, 42

Labels = Int[Tensor, " B"]


class EventsError(ValueError):
    """Events that cannot be read or used as asked; the message says what to do."""


class Scaling(NamedTuple):
    """How numbers of a file became those a model sees: value = (raw - shift) / unit.

    Attributes:
        shift: The raw number that becomes 0.
        unit: How many raw units make 1.
        low: The lowest raw number there is; -inf if there is no such.
        high: The highest; inf if there is no such.
    """

    shift: float = 0.0
    unit: float = 1.0
    low: float = float("-inf")
    high: float = float("inf")

    def applied(self, raw: Tensor) -> Tensor:
        """Return what a model sees."""
        return (raw - self.shift) / self.unit

    def undone(self, values: Tensor) -> Tensor:
        """Return raw numbers, held to the range there is."""
        return (values * self.unit + self.shift).clamp(self.low, self.high)

    @classmethod
    def between(cls, low: float, high: float) -> "Scaling":
        """Return the scaling that takes the two ends of a range to -1 and 1."""
        return cls((low + high) / 2, (high - low) / 2, low, high)


class Side(NamedTuple):
    """What is learnt from, or what is held out.

    Attributes:
        values: Scaled events.
        labels: A class for each; ``None`` if there are none.
        known: The level of the noise that is in each; ``None`` if all are clean.
    """

    values: Event
    labels: Labels | None
    known: Level | None = None


@dataclass(frozen=True)
class Events:
    """Samples of continuous data, ready for training.

    Attributes:
        name: Where they came from.
        values: Scaled events, float32: images [N, channels, height, width], waves
            [N, 1, samples], piano rolls [N, voices, time, pitch].
        held_out: True for events that are not learnt from.
        scaling: How to undo the scaling.
        licence: Of the data.
        labels: A class from 0 for each event; ``None`` if there are none.
        known: The level of the noise that is in each event; ``None`` if all are clean.
    """

    name: str
    values: Float[Tensor, "N *E"]
    held_out: Bool[Tensor, " N"]
    scaling: Scaling = field(default_factory=Scaling)
    licence: str = "unknown"
    labels: Int[Tensor, " N"] | None = None
    known: Float[Tensor, " N"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return tuple(self.values.shape[1:])

    @property
    def classes(self) -> int:
        """Number of classes, 0 without labels."""
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def spread(self) -> float:
        """Standard deviation of all numbers of what is learnt from."""
        return float(self.learnt.values.std())

    @property
    def learnt(self) -> Side:
        """What is learnt from."""
        return self._side(~self.held_out)

    @property
    def kept(self) -> Side:
        """What is held out."""
        return self._side(self.held_out)

    def _side(self, chosen: Tensor) -> Side:
        labels, known = (
            None if part is None else part[chosen] for part in (self.labels, self.known)
        )
        return Side(self.values[chosen], labels, known)


class Raw(NamedTuple):
    """What a reader found.

    Attributes:
        values: Events as they are stored, first axis for samples.
        scaling: How they are to be scaled; ``None`` for mean 0 and standard deviation 0.5.
        licence: Of the data.
        labels: A class for each.
        groups: Names what each event is a part of: parts of one thing are held out together.
    """

    values: np.ndarray
    scaling: Scaling | None
    licence: str = "unknown"
    labels: np.ndarray | None = None
    groups: Sequence[bytes] | None = None


def made(name: str, raw: Raw, holdout: float, seed: int) -> Events:
    """Check what was read, scale it and divide it.

    Which side an event is on depends on the seed and a hash of its content alone, so that copies
    stay together and a new file moves no old one across more than the border.

    Raises:
        ValueError: The fraction is out of range, or the numbers cannot be used.
    """
    check_holdout(holdout)
    _check(name, raw)
    values = torch.from_numpy(np.ascontiguousarray(raw.values, dtype=np.float32))
    scaling = raw.scaling or _standard(name, values)
    labels = None if raw.labels is None else torch.from_numpy(raw.labels.astype(np.int64))
    held = torch.from_numpy(_held_out(name, raw, holdout, seed))
    return Events(name, scaling.applied(values), held, scaling, raw.licence, labels)


def made_noisy(events: Events, level: float, share: float, seed: int) -> Events:
    """Return the same events with noise in some of those that are learnt from, always the same.

    Args:
        events: Clean ones.
        level: Standard deviation of the noise.
        share: Probability that an event gets it.
        seed: Names events and noise.
    """
    key = Key(rng.rows(seed, 0, len(events.values)))
    chosen = (rng.uniform(key, SITE_NOISY, 1)[:, 0] < share) & ~events.held_out
    known = torch.where(chosen, level, 0.0).float()
    noise = rng.normal(key, SITE_NOISE, events.values[0].numel()).float()
    values = events.values + known.view(-1, *[1] * len(events.shape)) * noise.view_as(events.values)
    return replace(events, values=values, known=known)


def _check(name: str, raw: Raw) -> None:
    values, labels = raw.values, raw.labels
    if values.dtype.kind not in "iuf":
        raise EventsError(f"{name} holds {values.dtype}, not numbers.")
    if values.ndim < 2 or values.size == 0 or len(values) < 2:
        raise EventsError(
            f"{name} has shape {tuple(values.shape)}; at least two events are needed, first axis "
            "for samples, none of the others empty."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))[0])
        raise EventsError(f"{name}: event {bad} holds NaN or infinity; repair or remove it.")
    if labels is None:
        return
    if labels.shape != values.shape[:1]:
        raise EventsError(
            f"{name} has {len(values)} events and labels of shape {tuple(labels.shape)}; one label "
            "for each event is needed."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise EventsError(f"{name}: labels must be whole numbers from 0, got {labels.dtype}.")


def _standard(name: str, values: Tensor) -> Scaling:
    mean, spread = float(values.double().mean()), float(values.double().std())
    if not spread > 0:
        raise EventsError(f"{name}: all numbers are {mean:.6g}; there is nothing to learn.")
    return Scaling(mean, 2 * spread)


def _held_out(name: str, raw: Raw, holdout: float, seed: int) -> np.ndarray:
    groups = raw.groups or [row.tobytes() for row in np.ascontiguousarray(raw.values)]
    names = [hashlib.sha256(b"%d:%s" % (seed, group)).digest() for group in groups]
    order = sorted(set(names))
    if len(order) < 2:
        raise EventsError(
            f"{name} holds copies of one event only; at least 2 are needed, one to learn from and "
            "one to hold out."
        )
    count = min(max(1, round(holdout * len(order))), len(order) - 1)
    chosen = set(order[:count])
    return np.array([one in chosen for one in names])
