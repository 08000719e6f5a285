"""Classifier guidance (Dhariwal and Nichol, 2021, arXiv:2105.05233): any log p(c | x_t) tilts.

The score gains weight times the gradient of log p(c | x_t), so the answer gains s^2 times that
(Tweedie): with the exact classifier and weight 1 it is the exact conditional answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.api import over
from unison.decode.continuous.guidance.parts import check_weight, kept, known
from unison.types import Event, EventDenoiser, Level

LogLikelihood = Callable[[Event, Level], Float[Tensor, " B"]]


@runtime_checkable
class KeepingLikelihood(Protocol):
    """A classifier that holds something of each row."""

    def __call__(self, x: Event, level: Level) -> Float[Tensor, " B"]:
        """Return log p(c | x_t)."""
        ...

    def keep(self, rows: Int[Tensor, " R"]) -> "KeepingLikelihood":
        """Return the classifier of some rows."""
        ...


@dataclass(frozen=True)
class Classified:
    """D + weight s^2 grad log p(c | y).

    Attributes:
        denoise: Who is guided.
        log_likelihood: log p(c | y) of noisy events, differentiable, of each row alone. It may
            hold something of each row (``keep``), such as the class that is wanted.
        weight: 1 for the law given the class; more sharpens it.
    """

    denoise: EventDenoiser
    log_likelihood: LogLikelihood
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate the denoiser, and the classifier's gradient."""
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_likelihood(free, level).sum(), free)
        return self.denoise(x, level) + self.weight * over(level.square(), x) * slope

    def keep(self, rows: Int[Tensor, " R"]) -> "Classified":
        """Return the guidance of some rows."""
        likelihood = self.log_likelihood
        if isinstance(likelihood, KeepingLikelihood):
            likelihood = likelihood.keep(rows)
        return replace(self, denoise=kept(self.denoise, rows), log_likelihood=likelihood)
