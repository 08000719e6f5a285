"""The posterior step of residual processes: ResShift, Resfusion, OUVE, StoRM and bridges alike.

With m the means, v the variances and r the forward carry of any residual process, x_s given x_t,
the clean event and the degraded one is a Gaussian: a Kalman step of gain r v_s / v_t. In place of
the clean event stands the denoiser's mean, as in ResShift (arXiv:2307.12348, eq. 7), Resfusion
(arXiv:2311.14900) and the bridges of speech enhancement (arXiv:2407.16074).
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import Levels, State, asked, at, spreading
from unison.decode.continuous.noise import noise_like
from unison.prob.rng import Key
from unison.process.continuous.residual import ResidualProcess, transition
from unison.types import Event, EventDenoiser, Law

SITE_STEP = 0x7FFFFD11


@dataclass(frozen=True)
class PosteriorStep:
    """One Gaussian step from time to time; levels are times.

    A mean in place of the clean event leaves out its spread: every step contracts the samples, the
    fewer steps the more. ``corrected`` adds that spread as noise. Where p(x_0 | x_t, degraded) is
    a Gaussian of independent elements the step is then exact, however long it is; elsewhere two
    moments are right. A grid that ends just above 0 draws the last belief in the same way, one
    that ends at 0 takes its mean.

    Attributes:
        process: The law of corruption.
        degraded: What is restored, or what the process was run around instead.
        eta: 1 for the posterior of the forward chain, 0 for a deterministic blend; the marginals
            are the same at any.
        corrected: Whether the spread of the clean event is added; the denoiser must state it.
    """

    law: ClassVar[Law] = Law.BIASED

    process: ResidualProcess
    degraded: Event
    eta: float = 1.0
    corrected: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, got {self.eta}.")

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and draw the earlier state."""
        late, early = levels[key.step : key.step + 2]
        way = transition(self.process, late, early, self.eta)
        if self.corrected:
            mean, spread = spreading(denoise).moments(state.x, at(late, state.x))
            noise = (way.variance + way.doubt**2 * spread).sqrt()
        else:
            mean, noise = asked(denoise, state.x, late).mean, way.variance**0.5
        shift = way.early[1] - way.gain * way.late[1]
        x = way.gain * state.x + way.doubt * mean + shift * self.degraded
        if not self.corrected and noise == 0:
            return State(x)
        return State(x + noise * noise_like(x, key, SITE_STEP))

    def keep(self, rows: Int[Tensor, " R"]) -> "PosteriorStep":
        """Return the solver of some of the rows."""
        return PosteriorStep(self.process, self.degraded[rows], self.eta, self.corrected)
