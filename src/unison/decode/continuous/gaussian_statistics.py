"""What Gaussian are the data like? Their mean, and their variance along axes or at each element."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unison.files import write_tensors
from unison.types import Event

Factor = Callable[[Tensor], Tensor]  # of a variance, element by element


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The mean and the covariance of data, in a form that functions of it are cheap in.

    Attributes:
        mean: Of events, in their shape or one that broadcasts to it.
        variances: Along ``axes``, [R]; without axes of each element, in a shape like ``mean``'s.
        axes: Orthonormal columns in flat events, [D, R], or ``None`` where elements are
            uncorrelated.
        rest: Variance in every direction that the axes leave out.
    """

    mean: Tensor
    variances: Tensor
    axes: Tensor | None = None
    rest: float = 0.0

    def __post_init__(self) -> None:
        if bool((self.variances < 0).any()) or self.rest < 0:
            raise ValueError(
                f"variances must be at least 0, the lowest is {self.variances.min().item():.3g} "
                f"and that of the rest {self.rest:.3g}."
            )
        if self.axes is not None and self.axes.shape[1:] != self.variances.shape:
            raise ValueError(
                f"axes {tuple(self.axes.shape)} need one variance for each column, got "
                f"{tuple(self.variances.shape)}."
            )

    def away(self, x: Event) -> Event:
        """Return x without the mean.

        Raises:
            ValueError: Events of another shape were described.
        """
        size = math.prod(x.shape[1:])
        fits = self.axes is None or len(self.axes) == size
        if not (fits and _broadcasts(self.mean, x) and (self.axes is not None or self._covers(x))):
            raise ValueError(
                f"these statistics are of events {tuple(self.mean.shape)}, the events are "
                f"{tuple(x.shape[1:])}; fit them to data like those that are drawn."
            )
        return x - self.mean.to(x)

    def times(self, factor: Factor, x: Event) -> Event:
        """Return a function of the covariance, as a matrix, times x."""
        if self.axes is None:
            return factor(self.variances.to(x)) * x
        axes, flat = self.axes.to(x), x.flatten(1)
        plain = factor(torch.full((), self.rest, dtype=x.dtype, device=x.device))
        extra = (flat @ axes) * (factor(self.variances.to(x)) - plain)
        return (plain * flat + extra @ axes.mT).view_as(x)

    def denoised(self, x: Event, level: float) -> Event:
        """Return E[x_0 | y] if the data were this Gaussian."""
        gained = self.times(lambda c: c / (c + level**2), self.away(x))
        return self.mean.to(x) + gained

    def _covers(self, x: Event) -> bool:
        return _broadcasts(self.variances, x)


def standard() -> Gaussian:
    """Return mean 0 and variance 1 in any shape."""
    return Gaussian(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))


def known(mean: Float[Tensor, " D"], covariance: Float[Tensor, "D D"]) -> Gaussian:
    """Return the statistics of flat events from their moments."""
    variances, axes = torch.linalg.eigh(covariance.double())
    return Gaussian(mean.double(), variances.clamp(min=0), axes)


def elementwise(samples: Event) -> Gaussian:
    """Fit a variance to each element."""
    values = samples.double()
    return Gaussian(values.mean(0), values.var(0, correction=0))


def channelwise(samples: Float[Tensor, "B C ..."]) -> Gaussian:
    """Fit one mean and one variance to each channel, the first axis of an event."""
    values = samples.double()
    over = [axis for axis in range(values.ndim) if axis != 1]
    mean = values.mean(over, keepdim=True)[0]
    return Gaussian(mean, values.var(over, correction=0, keepdim=True)[0])


def principal(samples: Event, axes: int) -> Gaussian:
    """Fit the directions of highest variance, and one variance to all other directions.

    Args:
        samples: At least two.
        axes: How many directions; at most as many as there are samples and elements.
    """
    flat = samples.double().flatten(1)
    limit = min(flat.shape)
    if not 1 <= axes <= limit:
        raise ValueError(
            f"axes must be from 1 to {limit} for {len(flat)} events of {flat.shape[1]} elements, "
            f"got {axes}."
        )
    mean = flat.mean(0)
    _, values, right = torch.linalg.svd(flat - mean, full_matrices=False)
    variances = values.square() / len(flat)
    left = flat.shape[1] - axes
    rest = variances[axes:].sum().item() / left if left else 0.0
    return Gaussian(mean.view(samples.shape[1:]), variances[:axes], right[:axes].mT, rest)


def save(statistics: Gaussian, path: Path) -> None:
    """Write statistics to one safetensors file."""
    tensors = {
        "mean": statistics.mean,
        "variances": statistics.variances,
        "rest": torch.tensor(statistics.rest, dtype=torch.float64),
    }
    axes = {} if statistics.axes is None else {"axes": statistics.axes}
    write_tensors(path, tensors | axes)


def load(path: Path) -> Gaussian:
    """Read what ``save`` wrote.

    Raises:
        ValueError: The file holds something else.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}).") from error
    missing = {"mean", "variances", "rest"} - tensors.keys()
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(sorted(missing))}: it does not hold the statistics of data."
        )
    rest = tensors["rest"].item()
    return Gaussian(tensors["mean"], tensors["variances"], tensors.get("axes"), rest)


def _broadcasts(part: Tensor, x: Event) -> bool:
    event = x.shape[1:]
    sizes = zip(reversed(part.shape), reversed(event), strict=False)
    return part.ndim <= len(event) and all(one in (1, size) for one, size in sizes)
