"""Diffusion posterior sampling (Chung et al., 2023, arXiv:2209.14687): a gradient through the net.

log p(y | x_t) is taken to be the likelihood at the denoised point. That ignores how uncertain the
point is, so the law of the samples is not the posterior; ``search.posterior`` has samplers that
weigh the error away.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import over
from unison.decode.continuous.guidance.measurement import Measurement
from unison.decode.continuous.guidance.parts import check_weight, kept, known
from unison.types import Event, EventDenoiser, Level

Scale = Literal["noise", "spread", "norm"]


@dataclass(frozen=True)
class DPS:
    """D - strength s^2 grad(|y - A(D)|^2 / 2) / v, the gradient taken through D.

    Attributes:
        denoise: Who is guided; differentiable.
        measurement: What was seen.
        strength: 1 by default.
        scale: What v is. ``noise``: the measurement's variance, the likelihood as it stands.
            ``spread``: that plus s^2 / (1 + s^2), as uncertain as data of variance 1 leave the
            denoised point; the tamest. ``norm``: |y - A(D)| itself, the published choice, with
            which strength is a length.
    """

    denoise: EventDenoiser
    measurement: Measurement
    strength: float = 1.0
    scale: Scale = "spread"

    def __post_init__(self) -> None:
        check_weight(self.strength, least=0.0)
        if self.scale == "noise" and self.measurement.noise == 0:
            raise ValueError(
                "a likelihood without noise has no gradient; choose scale 'spread' or 'norm'."
            )

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate the denoiser and go back through it."""
        with torch.enable_grad():
            free = x.detach().requires_grad_()
            mean = self.denoise(free, level)
            misfit = self.measurement.misfit(mean)
            (slope,) = torch.autograd.grad(misfit.sum() / 2, free)
        square = level.square()
        if self.scale == "norm":
            variance = misfit.detach().sqrt().clamp(min=1e-12)
        else:
            spread = square / (1 + square) if self.scale == "spread" else torch.zeros_like(square)
            variance = self.measurement.noise**2 + spread
        return mean.detach() - self.strength * over(square / variance, x) * slope

    def keep(self, rows: Int[Tensor, " R"]) -> "DPS":
        """Return the guidance of some rows."""
        return replace(
            self, denoise=kept(self.denoise, rows), measurement=self.measurement.keep(rows)
        )
