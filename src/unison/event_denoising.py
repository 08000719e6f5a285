"""How do a network's answers become a belief about clean events? E[x_0 | x_t] of many kinds.

In the frame y = x_0 + s noise every kind of answer F to a scaled event c y gives the mean as
skip y + out F, with numbers that depend on s alone:

    clean     F = x_0                     skip = 0                        out = 1
    noise     F = noise                   skip = 1                        out = -s
    velocity  F = c (noise - s x_0)       skip = 1 / (1 + s^2)            out = -s / (c (1 + s^2))
    flow      F = noise - x_0             skip = 1 / (1 + s)              out = -s / (1 + s)
    score     F = score of c y            skip = 1                        out = s^2 c
    edm       F of variance 1             skip = d^2 / r^2                out = s d / r

with d the spread of the data and r^2 = s^2 + d^2 (Karras et al., 2022, arXiv:2206.00364). Where s
is large ``noise`` and ``score`` lose as many digits as s has, whatever is done here; the others
lose none. A residual process is the same around the degraded event (``Residual``).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.process.continuous.gaussian import GaussianProcess
from unison.process.continuous.residual import ResidualProcess
from unison.types import Event, EventDenoiser, EventNetwork, Level

Prediction = Literal["clean", "noise", "velocity", "flow", "score", "edm"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


class Scales(NamedTuple):
    """How a network is asked at some levels, and how its answer F is read: skip y + out F.

    Attributes:
        into: Factor on y before the network sees it.
        noise: What the network is told of the level.
        skip: Share of y in the mean.
        out: Factor on the answer.
    """

    into: Level
    noise: Level
    skip: Level
    out: Level


class _Known(NamedTuple):
    s: Tensor
    into: Tensor
    spread: float


_READ: dict[Prediction, Callable[[_Known], tuple[Tensor, Tensor]]] = {
    "clean": lambda at: (torch.zeros_like(at.s), torch.ones_like(at.s)),
    "noise": lambda at: (torch.ones_like(at.s), -at.s),
    "velocity": lambda at: (
        1 / (1 + at.s.square()),
        -at.s / (at.into * (1 + at.s.square())),
    ),
    "flow": lambda at: (1 / (1 + at.s), -at.s / (1 + at.s)),
    "score": lambda at: (torch.ones_like(at.s), at.s.square() * at.into),
    "edm": lambda at: (
        at.spread**2 / (at.s.square() + at.spread**2),
        at.s * at.spread / (at.s.square() + at.spread**2).sqrt(),
    ),
}


def scales(
    prediction: Prediction,
    level: Level,
    spread: float = 1.0,
    process: GaussianProcess | None = None,
) -> Scales:
    """Return how a network is asked at each level, float64; training and decoding share it.

    Args:
        prediction: What the answer means.
        level: s of each row, above 0.
        spread: Standard deviation of the data.
        process: Whose x_t and time in [0, 1] the network sees; ``None`` for y scaled to variance
            1, and log(s) / 4.

    Raises:
        ValueError: The prediction is unknown, or the spread not above 0.
    """
    if prediction not in _READ:
        raise ValueError(f"unknown prediction {prediction!r}; known: {', '.join(PREDICTIONS)}.")
    if not spread > 0:
        raise ValueError(f"the spread of the data must be above 0, got {spread}.")
    s = level.double()
    if process is None:
        into, noise = (s.square() + spread**2).rsqrt(), s.log() / 4
    else:
        noise = process.time_of(s)
        into = process.alpha(noise)
    skip, out = _READ[prediction](_Known(s, into, spread))
    return Scales(into, noise, skip, out)


@dataclass(frozen=True)
class Preconditioned:
    """A network as a denoiser of one Gaussian process, with its conditions bound.

    The network computes in ``dtype``, on CUDA inside bfloat16 autocast; the mean is put together
    in the type of the events. Gradients flow only where ``gradients`` is set. A process's time is
    told in float64: float32 does not hold k / 999 well enough to find step k again.

    Attributes:
        network: Who is asked.
        prediction: What its answer means.
        spread: Standard deviation of the data.
        process: Whose x_t and time it sees; ``None`` for y scaled to variance 1 and log(s) / 4.
        label: Class of each row, -1 for none said; ``None`` for networks without classes.
        beside: What else is known of each row.
        span: The lowest and the highest level it was trained on.
        gradients: Let gradients pass from the mean to the events.
        dtype: What the network computes in.
    """

    network: EventNetwork
    prediction: Prediction = "edm"
    spread: float = 1.0
    process: GaussianProcess | None = None
    label: Int[Tensor, " B"] | None = None
    beside: Float[Tensor, "B ..."] | None = None
    span: tuple[float, float] = (0.0, math.inf)
    gradients: bool = False
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        scales(self.prediction, torch.ones(1), self.spread)
        low, high = self.span
        if not 0 <= low < high:
            raise ValueError(f"the levels of a span must rise from at least 0, got {self.span}.")

    def __call__(self, x: Event, level: Level) -> Event:
        """Return E[x_0 | y] of every row.

        Raises:
            ValueError: The rows are not those whose conditions are bound.
        """
        return self.answered(x, level).mean()

    def answered(self, x: Event, level: Level) -> "Answered":
        """Return the network's bare answer, and how the mean is made of it."""
        at = scales(self.prediction, level, self.spread, self.process)
        noise = at.noise.to(self.dtype) if self.process is None else at.noise
        answer = _ask(self, over(at.into, x) * x, noise, self.beside)
        return Answered(over(at.skip, x) * x, over(at.out, x), answer)

    def keep(self, rows: Int[Tensor, " N"]) -> "Preconditioned":
        """Return the denoiser of some of its rows, each as often as it is named."""
        return replace(self, label=_chosen(self.label, rows), beside=_chosen(self.beside, rows))


class ResidualScales(NamedTuple):
    """How a network is asked about x_t around a degraded event, and how it is read.

    With z = x_t - about degraded the network sees into z, and the clean event is
    degraded + skip z + out F.

    Attributes:
        about: Share of the degraded event in x_t if it were the clean one.
        into: Factor on z.
        skip: Share of z in the mean.
        out: Factor on the answer.
    """

    about: Level
    into: Level
    skip: Level
    out: Level


def residual_scales(process: ResidualProcess, t: Level, spread: float) -> ResidualScales:
    """Return how a network is asked at each time, float64; training and decoding share it.

    What is unknown is the residual x_0 - degraded, of standard deviation ``spread``: z is alpha
    times it and noise, so skip and out are those of ``edm`` for it. They stay finite at both ends,
    where no noise is left and where nothing of x_0 is.
    """
    if not spread > 0:
        raise ValueError(f"the spread of the residual must be above 0, got {spread}.")
    t = t.double()
    alpha, variance = process.alpha(t), process.variance(t)
    total = (alpha * spread).square() + variance
    pinned = total == 0  # x_t is the degraded event: z is 0, and says nothing
    total = torch.where(pinned, 1.0, total)
    return ResidualScales(
        alpha + process.shift(t),
        total.rsqrt(),
        alpha * spread**2 / total,
        spread * torch.where(pinned, 1.0, variance / total).sqrt(),
    )


@dataclass(frozen=True)
class Residual:
    """A network as a denoiser of a residual process, with the degraded events bound.

    The network sees the degraded event beside, and the time t as noise; levels are times. A fresh
    network, whose answer is 0, says what a Gaussian residual would.

    Attributes:
        network: Who is asked.
        process: How clean events become degraded ones.
        degraded: What is to be restored.
        spread: Standard deviation of clean minus degraded events.
        label: Class of each row, -1 for none said; ``None`` for networks without classes.
        beside: What else is known of each row; the network sees it after the degraded event.
        span: The lowest and the highest time it was trained on.
        gradients: Let gradients pass from the mean to the events.
        dtype: What the network computes in.
    """

    network: EventNetwork
    process: ResidualProcess
    degraded: Event
    spread: float = 1.0
    label: Int[Tensor, " B"] | None = None
    beside: Float[Tensor, "B ..."] | None = None
    span: tuple[float, float] = (0.0, 1.0)
    gradients: bool = False
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Event, level: Level) -> Event:
        """Return E[x_0 | x_t, degraded] of every row.

        Raises:
            ValueError: The rows are not those whose conditions are bound.
        """
        return self.answered(x, level).mean()

    def answered(self, x: Event, level: Level) -> "Answered":
        """Return the network's bare answer, and how the mean is made of it."""
        if x.shape != self.degraded.shape:
            raise ValueError(
                f"the degraded events have shape {tuple(self.degraded.shape)} and the noisy ones "
                f"{tuple(x.shape)}; they must be the same rows, of the same shape."
            )
        at = residual_scales(self.process, level, self.spread)
        degraded = self.degraded.to(x.dtype)
        away = x - over(at.about, x) * degraded
        beside = degraded if self.beside is None else torch.cat([degraded, self.beside], 1)
        answer = _ask(self, over(at.into, x) * away, level.to(self.dtype), beside)
        return Answered(degraded + over(at.skip, x) * away, over(at.out, x), answer)

    def keep(self, rows: Int[Tensor, " N"]) -> "Residual":
        """Return the denoiser of some of its rows, each as often as it is named."""
        return replace(
            self,
            degraded=self.degraded[rows],
            label=_chosen(self.label, rows),
            beside=_chosen(self.beside, rows),
        )


class Answered(NamedTuple):
    """A network's answer F, and how it is read: known + factor F.

    Attributes:
        known: What is said before the network is asked.
        factor: On the answer, one for each row.
        answer: F.
    """

    known: Event
    factor: Tensor
    answer: Event

    def mean(self) -> Event:
        """Return the mean, in the type of the events."""
        return self.known + self.factor * self.answer.to(self.known.dtype)


@dataclass(frozen=True)
class Spread:
    """A denoiser that also says how sure it is, by a second network.

    The variance of an element is out^2 exp(F) with the ``out`` of ``edm``: a fresh network answers
    with what a Gaussian of the data's spread would leave.

    Attributes:
        denoiser: Who gives the mean.
        variance: The second network, of prediction ``edm``, bound to the same conditions.
    """

    denoiser: EventDenoiser
    variance: Preconditioned | Residual

    def __post_init__(self) -> None:
        if isinstance(self.variance, Preconditioned) and self.variance.prediction != "edm":
            raise ValueError(
                "the network of the variance must be of prediction 'edm', got "
                f"{self.variance.prediction!r}."
            )

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean of the clean event."""
        return self.denoiser(x, level)

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return the mean and the variance of each element."""
        told = self.variance.answered(x, level)
        return self.denoiser(x, level), told.factor.square() * told.answer.to(x.dtype).exp()


def over(values: Level, x: Event) -> Tensor:
    """Return a number for each row, to be multiplied with events."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def _ask(
    asked: Preconditioned | Residual, shown: Event, noise: Level, beside: Tensor | None
) -> Event:
    """Return the network's bare answer to events as it sees them."""
    for name, bound in (("labels", asked.label), ("conditions beside", beside)):
        if bound is not None and len(bound) != len(shown):
            raise ValueError(
                f"the denoiser is bound to {len(bound)} {name} and was asked about {len(shown)} "
                "events; bind one for each row, or choose rows with keep(rows)."
            )
    with (
        torch.set_grad_enabled(asked.gradients and torch.is_grad_enabled()),
        torch.autocast("cuda", torch.bfloat16, enabled=shown.is_cuda),
    ):
        return asked.network(
            shown.to(asked.dtype),
            noise,
            asked.label,
            None if beside is None else beside.to(asked.dtype),
        )


def _chosen(bound: Tensor | None, rows: Int[Tensor, " N"]) -> Tensor | None:
    return None if bound is None else bound[rows]
