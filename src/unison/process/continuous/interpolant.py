"""What lies between any two sets of samples? Stochastic interpolants.

x_t = alpha(t) x_0 + beta(t) x_1 + gamma(t) z with z standard normal (Albergo, Boffi and
Vanden-Eijnden, 2023, arXiv:2303.08797): the law of x_t moves with the velocity
b = E[alpha' x_0 + beta' x_1 + gamma' z | x_t], and its score is -E[z | x_t] / gamma. Both are
conditional means, so both are learnt by regression, and a sampler may add any amount of noise
afterwards (``decode.continuous.transport``). Here t=0 is the first set and t=1 the second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.types import Event, Level

Values = Float[Tensor, "*N"]


class Blend(NamedTuple):
    """Weights of the two events and of the noise, or their derivatives in time.

    Attributes:
        first: alpha, of x_0.
        second: beta, of x_1.
        noise: gamma.
    """

    first: Values
    second: Values
    noise: Values


class Middle(NamedTuple):
    """A training example.

    Attributes:
        x: x_t.
        velocity: Whose conditional mean is b.
        noise: z, whose conditional mean gives the score.
    """

    x: Event
    velocity: Event
    noise: Event


def _linear(t: Values) -> tuple[Values, Values]:
    return 1 - t, t


def _trigonometric(t: Values) -> tuple[Values, Values]:
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def _through_noise(t: Values) -> tuple[Values, Values]:
    """Fade the first event out until t=1/2 and the second in from there."""
    faded = torch.cos(math.pi * t).square()
    return torch.where(t < 0.5, faded, 0 * faded), torch.where(t >= 0.5, faded, 0 * faded)


def _second_alone(t: Values) -> tuple[Values, Values]:
    return torch.zeros_like(t), t


def _mirror(t: Values) -> tuple[Values, Values]:
    return torch.zeros_like(t), torch.ones_like(t)


PATHS: dict[str, Callable[[Values], tuple[Values, Values]]] = {
    "encoding_decoding": _through_noise,
    "linear": _linear,
    "mirror": _mirror,
    "one_sided": _second_alone,
    "trigonometric": _trigonometric,
}

NOISES: dict[str, Callable[[Values], Values]] = {
    "parabola": lambda t: t * (1 - t),
    "remaining": lambda t: 1 - t,
    "root": lambda t: (t * (1 - t)).sqrt(),
    "sine": lambda t: torch.sin(math.pi * t).square(),
}


@dataclass(frozen=True)
class Interpolant:
    """A choice of the three weights.

    Attributes:
        path: ``linear``, ``trigonometric``, ``encoding_decoding`` (through pure noise at t=1/2;
            its noise is ``sine``), ``one_sided`` (from noise alone; its noise is ``remaining``) or
            ``mirror`` (from the second set to itself).
        noise: ``root`` for sqrt(t (1 - t)), the Brownian bridge's; ``parabola``; ``sine`` for its
            square; ``remaining`` for 1 - t.
        scale: Factor of the noise; 0 leaves the events alone, and no score.
    """

    path: str = "linear"
    noise: str = "root"
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name, value, table in (("path", self.path, PATHS), ("noise", self.noise, NOISES)):
            if value not in table:
                raise ValueError(f"{name} must be one of {', '.join(table)}; got {value!r}.")
        if self.scale < 0:
            raise ValueError(f"scale must be at least 0, got {self.scale}.")
        if (self.path == "one_sided") != (self.noise == "remaining"):
            raise ValueError(
                "the one_sided path starts from noise, which is what 'remaining' is for; use both "
                f"or neither, got {self.path!r} and {self.noise!r}."
            )

    def at(self, t: Values) -> Blend:
        """Return the weights."""
        return Blend(*PATHS[self.path](t), self.scale * NOISES[self.noise](t))

    def rate(self, t: Values) -> Blend:
        """Return their derivatives; that of ``root`` is infinite at both ends."""
        slopes = [torch.func.grad(lambda at, i=i: self.at(at)[i].sum())(t) for i in range(3)]
        return Blend(*slopes)

    def between(self, first: Event, second: Event, noise: Event, t: Level) -> Middle:
        """Return x_t of every row and what is learnt from it.

        Args:
            first: x_0.
            second: x_1.
            noise: Standard normal.
            t: Time of each row, inside (0, 1) where the noise is ``root``.
        """
        there, rate = (
            [part.to(first.dtype).view(-1, *[1] * (first.ndim - 1)) for part in parts]
            for parts in (self.at(t.double()), self.rate(t.double()))
        )
        x, velocity = (
            weights[0] * first + weights[1] * second + weights[2] * noise
            for weights in (there, rate)
        )
        return Middle(x, velocity, noise)


def regression(answer: Event, target: Event) -> Float[Tensor, " B"]:
    """Return |answer|^2 / 2 - target . answer of every row.

    Least for the conditional mean of the target: b where the target is the velocity, E[z | x_t]
    where it is the noise. It differs from half the squared error by what no answer changes.
    """
    return (answer.square() / 2 - target * answer).flatten(1).sum(1)
