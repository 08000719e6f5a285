"""The reverse SDE of SGMSE+ (Richter et al., 2023, arXiv:2208.05830), with Langevin corrections.

The predictor-corrector of score-based models (Song et al., 2021, arXiv:2011.13456, algorithms 2
and 5) for a process that is pulled to the degraded signal. Its plain Euler-Maruyama steps are what
the published models run with; the posterior step is exact in the linear part and needs fewer.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import Levels, State, asked
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.process.continuous.ouve import OUVE
from unison.types import Event, EventDenoiser, Law

SITE_PREDICT, SITE_CORRECT = 0x7FFFFD12, 0x7FFFFD40  # corrections count up from theirs


@dataclass(frozen=True)
class ReverseSDE:
    """Annealed Langevin corrections at a time, then an Euler-Maruyama step; levels are times.

    The published grid is uniform from 1 to 0.03, and then goes to 0: the driver's last answer,
    without noise.

    Attributes:
        process: The law of corruption.
        degraded: What is restored, or what the process was run around instead.
        corrections: Langevin steps before each Euler step, one evaluation each.
        snr: Their size, in standard deviations of the noise.
    """

    law: ClassVar[Law] = Law.BIASED

    process: OUVE
    degraded: Event
    corrections: int = 1
    snr: float = 0.5

    def __post_init__(self) -> None:
        if self.corrections < 0 or not self.snr > 0:
            raise ValueError(
                "corrections must be at least 0 and snr above 0, got "
                f"{self.corrections} and {self.snr}."
            )

    def evaluations(self, intervals: int) -> int:
        """One an interval and one a correction."""
        return intervals * (1 + self.corrections)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Correct, and step."""
        late, early = levels[key.step : key.step + 2]
        alpha, shift, variance, diffusion = self._numbers(late)

        def score(x: Event) -> Event:
            mean = asked(denoise, x, late).mean
            return (alpha * mean + shift * self.degraded - x) / variance

        x, size = state.x, 2 * self.snr**2 * variance
        for number in range(self.corrections):
            noise = noise_like(x, key, SITE_CORRECT + number)
            x = x + size * score(x) + (2 * size) ** 0.5 * noise
        drift = self.process.stiffness * (self.degraded - x) - diffusion * score(x)
        noise = noise_like(x, key, SITE_PREDICT)
        return State(x - (late - early) * drift + (diffusion * (late - early)) ** 0.5 * noise)

    def keep(self, rows: Int[Tensor, " R"]) -> "ReverseSDE":
        """Return the solver of some of the rows."""
        return ReverseSDE(self.process, self.degraded[rows], self.corrections, self.snr)

    def _numbers(self, time: float) -> tuple[float, float, float, float]:
        t = torch.tensor(time, dtype=torch.float64)
        process = self.process
        parts = (process.alpha(t), process.shift(t), process.variance(t), process.diffusion(t))
        alpha, shift, variance, diffusion = torch.stack(parts).tolist()
        return alpha, shift, variance, diffusion
