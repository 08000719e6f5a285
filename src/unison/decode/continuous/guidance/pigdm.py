"""Pseudo-inverse guidance (Song et al., 2023): the denoised point has a covariance.

p(x_0 | x_t) is taken to be a normal law round the denoiser's answer D. With the covariance
s^2 J that Tweedie's second identity names, J the denoiser's Jacobian (Boys et al., 2023,
arXiv:2310.06721), the guided answer is exact for every Gaussian prior; with a single number for
a covariance it is exact for Gaussian priors of that shape.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import over
from unison.decode.continuous.guidance.conjugate import solved
from unison.decode.continuous.guidance.measurement import Measurement, linear_of
from unison.decode.continuous.guidance.parts import kept, known
from unison.types import Event, EventDenoiser, Level

Covariance = Literal["isotropic", "tweedie"]


@dataclass(frozen=True)
class PiGDM:
    """D + s^2 J^T A^T (A C A^T + noise^2)^-1 (y - A D).

    Attributes:
        denoise: Who is guided; differentiable.
        measurement: What was seen, by a linear operator.
        covariance: What C is: s^2 J, at the price of a backward pass for each iteration, or
            s^2 c / (s^2 + c), with c the variance of the data, times the identity.
        variance: c.
        iterations: Of conjugate gradients.
    """

    denoise: EventDenoiser
    measurement: Measurement
    covariance: Covariance = "isotropic"
    variance: float = 1.0
    iterations: int = 30

    def __post_init__(self) -> None:
        linear_of(self.measurement, "PiGDM")
        if not self.variance > 0:
            raise ValueError(f"the data's variance must be above 0, got {self.variance}.")
        if self.iterations < 1:
            raise ValueError(f"at least one iteration is needed, got {self.iterations}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate the denoiser, solve, and go back through it."""
        shape = tuple(x.shape[1:])
        operator = linear_of(self.measurement, "PiGDM")
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            mean = self.denoise(free, level)
        square = over(level.square(), x)

        def back(event: Tensor) -> Tensor:
            return torch.autograd.grad(mean, free, event, retain_graph=True)[0]

        def hidden(event: Tensor) -> Tensor:
            if self.covariance == "tweedie":
                return square * back(event)
            return square * self.variance / (square + self.variance) * event

        def shown(seen: Tensor) -> Tensor:
            covered = operator(hidden(operator.adjoint(seen, shape)))
            return covered + self.measurement.noise**2 * seen

        off = self.measurement.residual(mean.detach())
        pull = operator.adjoint(solved(shown, off, self.iterations), shape)
        return mean.detach() + square * back(pull)

    def keep(self, rows: Int[Tensor, " R"]) -> "PiGDM":
        """Return the guidance of some rows."""
        return replace(
            self, denoise=kept(self.denoise, rows), measurement=self.measurement.keep(rows)
        )
