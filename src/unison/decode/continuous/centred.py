"""How do Gaussian solvers serve residual processes? Around the moving centre nothing else is left.

Given the degraded event, (x_t - shift degraded) / alpha = x_0 + s noise. ``Centred`` shows a
residual denoiser to the solvers of that frame: the probability-flow ODE of any residual process by
DDIM, DPM-Solver++, UniPC and the rest, and their SDEs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import Levels, over, spreading
from unison.decode.continuous.guidance.parts import kept, known
from unison.process.continuous.residual import ResidualProcess
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class Centred:
    """A denoiser of x_t at times, as one of y at levels s.

    Attributes:
        denoise: Of the residual process.
        process: The law of corruption.
        degraded: What the process moves to.
    """

    denoise: EventDenoiser
    process: ResidualProcess
    degraded: Event

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the mean of the clean event."""
        return self.denoise(*self._there(x, level))

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return the mean and the variances.

        Raises:
            ValueError: The denoiser does not say how sure it is.
        """
        return spreading(self.denoise).moments(*self._there(x, level))

    @property
    def span(self) -> tuple[float, float]:
        """The levels of the times that the denoiser knows."""
        low, high = known(self.denoise)
        times = torch.tensor([low, min(high, 1.0)], dtype=torch.float64)
        first, last = self.process.level(times).tolist()
        return first, last

    def centre(self, x: Event, time: float) -> Event:
        """Return y from x_t, where any x_0 is left in it."""
        t = torch.tensor(time, dtype=torch.float64)
        return (x - self.process.shift(t).item() * self.degraded) / self._alpha(time)

    def levels(self, times: Levels) -> Levels:
        """Return the levels of a grid of times.

        Raises:
            ValueError: At its first time nothing is left of x_0: the level is infinite.
        """
        self._alpha(times[0])
        return tuple(self.process.level(torch.tensor(times, dtype=torch.float64)).tolist())

    def keep(self, rows: Int[Tensor, " R"]) -> "Centred":
        """Return the denoiser of some of the rows."""
        return Centred(kept(self.denoise, rows), self.process, self.degraded[rows])

    def _there(self, y: Event, level: Level) -> tuple[Event, Level]:
        t = self.process.time_of(level.double())
        parts = self.process.alpha(t), self.process.shift(t)
        alpha, shift = (over(part.to(y.dtype), y) for part in parts)
        return alpha * y + shift * self.degraded, t.to(y.dtype)

    def _alpha(self, time: float) -> float:
        alpha = self.process.alpha(torch.tensor(time, dtype=torch.float64)).item()
        if not alpha > 0:
            raise ValueError(
                f"at time {time} nothing is left of the clean event, so the centred frame has no "
                "finite level there; begin a little earlier, or use the posterior step."
            )
        return alpha
