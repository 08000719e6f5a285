"""Ancestral sampling whose last step takes the likeliest tokens instead of drawing them."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode import grid
from unison.decode.api import SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.decode.jointly import likeliest
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Denoiser, Law


@dataclass(frozen=True)
class GreedyTail:
    """Follow the reverse chain to t = last, then write argmax x_theta (Duo, arXiv:2506.10892).

    Law: N - 1 ancestral updates between N equally spaced times from 1 to ``last``, then at each
    position the likeliest token of the belief itself. (The posterior's argmax at such a time
    would nearly always return the current token.) Tokens an absorbing process has already
    decided are kept. The entropy is below the model's; that is the point.

    Attributes:
        steps: N, the number of denoiser evaluations. The only time of N = 1 is t = 1.
        last: The time of the argmax.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    steps: int = 64
    last: float = 1e-5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")
        if not 0 < self.last < 1:
            raise ValueError(f"last must be in (0, 1), got {self.last}.")

    def budget(self, length: int) -> int:
        """Return N."""
        return self.steps

    def step(
        self, process: Absorbing | Uniform, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draw x_s from the posterior; in the last step take the argmax of the belief."""
        xt = canvas.tokens
        t, s = self._time(key.step), self._time(key.step + 1)
        last = key.step + 1 >= self.steps
        asked = likeliest(denoise, plain=True) if last else denoise
        log_x0 = asked(xt, grid.per_row(t, xt))
        if last:
            xs = torch.where(process.settled(xt), xt, log_x0.argmax(-1))
        else:
            alphas = grid.survival(process, s, xt), grid.survival(process, t, xt)
            u_jump = rng.uniform(key, SITE_JUMP, xt.shape[1])
            u_target = rng.uniform(key, SITE_TARGET, xt.shape[1])
            xs = process.sample_posterior(xt, log_x0, alphas, u_jump, u_target)
        settled = (process.settled(xs) | canvas.given).all(1)
        return canvas._replace(tokens=xs), StepInfo(xs != xt, settled | last)

    def _time(self, step: int) -> float:
        return 1 - (1 - self.last) * (step / max(self.steps - 1, 1))
