"""What is to be restored? Clean events and a worse copy of each, on the same grid.

To add a degradation: write a frozen dataclass that is called with events and a key, and add one
line to ``DEGRADATIONS``.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event

SITE_DEGRADED = 40
_REACH = 3.0  # standard deviations of a blur that are kept on each side


class Pair(NamedTuple):
    """An event, what is left of it, and where what is left was measured.

    Attributes:
        clean: The event.
        degraded: Of the same shape.
        known: 1 where the degraded event holds a measurement, 0 where it is filled in.
    """

    clean: Event
    degraded: Event
    known: Event


@runtime_checkable
class Degradation(Protocol):
    """One way to make events worse; its fields are its configuration."""

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Return every event with what is left of it."""
        ...


@dataclass(frozen=True)
class LowResolution:
    """Means of squares of ``factor`` pixels, each written over its square.

    Attributes:
        factor: How many pixels, along each axis behind the channels, become one.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor must be at least 2, got {self.factor}.")

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Average and repeat."""
        axes = range(2, clean.ndim)
        if not axes or any(clean.shape[axis] % self.factor for axis in axes):
            raise ValueError(
                f"events {tuple(clean.shape[1:])} cannot be divided by factor={self.factor}; "
                "choose a factor of every axis behind the channels."
            )
        small = clean
        for axis in axes:
            small = small.unflatten(axis, (-1, self.factor)).mean(axis + 1)
        for axis in axes:
            small = small.repeat_interleave(self.factor, axis)
        return Pair(clean, small, torch.ones_like(clean))


@dataclass(frozen=True)
class Hole:
    """A box at a place of its own in each event is cut out and filled with 0, in all channels.

    Attributes:
        share: Share of each axis behind the channels that the box covers.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share}.")

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Cut."""
        axes = range(2, clean.ndim)
        places = rng.uniform(key, SITE_DEGRADED, max(1, len(axes))).to(clean.device)
        inside = torch.ones_like(clean, dtype=torch.bool)
        for number, axis in enumerate(axes):
            size = clean.shape[axis]
            width = max(1, round(self.share * size))
            first = (places[:, number] * (size - width + 1)).long()
            along = torch.arange(size, device=clean.device)
            box = (along >= first[:, None]) & (along < first[:, None] + width)
            inside &= box.view(-1, *[size if a == axis else 1 for a in range(1, clean.ndim)])
        known = (~inside).to(clean.dtype)
        return Pair(clean, clean * known, known)


@dataclass(frozen=True)
class Scattered:
    """Numbers are lost one by one and filled with 0, the same places in all channels.

    Attributes:
        kept: Share that is left.
    """

    kept: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.kept < 1:
            raise ValueError(f"kept must be in (0, 1), got {self.kept}.")

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Lose."""
        grid = clean.shape[2:]
        u = rng.uniform(key, SITE_DEGRADED, math.prod(grid)).to(clean.device)
        known = (u < self.kept).to(clean.dtype).view(-1, 1, *grid).expand_as(clean)
        return Pair(clean, clean * known, known)


@dataclass(frozen=True)
class Blur:
    """A Gaussian filter along every axis behind the channels; edges are repeated.

    Attributes:
        spread: Its standard deviation, in pixels.
    """

    spread: float = 1.0

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise ValueError(f"spread must be above 0, got {self.spread}.")

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Filter."""
        reach = math.ceil(_REACH * self.spread)
        along = torch.arange(-reach, reach + 1, dtype=clean.dtype, device=clean.device)
        kernel = (-(along / self.spread).square() / 2).exp()
        kernel = kernel / kernel.sum()
        out = clean
        for axis in range(2, clean.ndim):
            out = _filtered(out, kernel, axis)
        return Pair(clean, out, torch.ones_like(clean))


@dataclass(frozen=True)
class Noise:
    """White noise is added.

    Attributes:
        level: Its standard deviation, in the units a model sees.
    """

    level: float = 0.5

    def __post_init__(self) -> None:
        if not self.level > 0:
            raise ValueError(f"level must be above 0, got {self.level}.")

    def __call__(self, clean: Event, key: Key) -> Pair:
        """Add."""
        noise = rng.normal(key, SITE_DEGRADED, clean[0].numel()).to(clean).view_as(clean)
        return Pair(clean, clean + self.level * noise, torch.ones_like(clean))


DEGRADATIONS: dict[str, type[Degradation]] = {
    "blur": Blur,
    "hole": Hole,
    "low_resolution": LowResolution,
    "noise": Noise,
    "scattered": Scattered,
}


def degraded(clean: Event, degradation: Degradation, key: Key) -> Pair:
    """Return every event with a worse copy; a row's copy depends on its own seed alone.

    Raises:
        ValueError: The degradation does not fit events of this shape.
    """
    if clean.ndim < 3:
        raise ValueError(
            f"events {tuple(clean.shape[1:])} have no axis behind the channels; degradations need "
            "[channels, samples] or [channels, height, width]."
        )
    return degradation(clean, key)


def _filtered(x: Tensor, kernel: Tensor, axis: int) -> Tensor:
    last = x.movedim(axis, -1)
    reach = len(kernel) // 2
    flat = last.reshape(-1, 1, last.shape[-1])
    padded = functional.pad(flat, (reach, reach), mode="replicate")
    return functional.conv1d(padded, kernel.view(1, 1, -1)).view(last.shape).movedim(-1, axis)
