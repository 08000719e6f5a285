"""Ancestral sampling: follow the reverse chain on a uniform time grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from unison.decode import grid
from unison.decode.api import SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.decode.jointly import likeliest
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Denoiser, Law


@dataclass(frozen=True)
class Ancestral:
    """Sample x_s ~ p(x_s | x_t) along 1 = t_0 > ... > t_N = 0 (arXiv:2406.07524, 2412.10193).

    Law: the N-step reverse chain; with ``last="mode"`` its last update takes the likeliest token
    of each position's posterior. The chain equals the model's continuous-time law only as N
    grows; for finite N the tokens that jump together are drawn independently.

    Differs: the last update goes to t=0 exactly, so N steps cost N evaluations (published code
    stops at t=1e-5 and spends one more).

    Attributes:
        steps: N, the number of denoiser evaluations.
        last: Whether the last update draws from its posterior or takes its mode, which suits few
            steps: what is drawn together at the end is mended by no later step.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    steps: int = 64
    last: Literal["draw", "mode"] = "draw"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")
        if self.last not in ("draw", "mode"):
            raise ValueError(f"last must be draw or mode, got {self.last!r}.")

    @property
    def apart(self) -> bool:
        """Whether rows may stand at different steps: unless their last update is another."""
        return self.last == "draw"

    def joined(self, process: Absorbing | Uniform, canvases: Sequence[Canvas]) -> None:
        """Return no memory: it has none."""

    def budget(self, length: int) -> int:
        """Return N."""
        return self.steps

    def step(
        self, process: Absorbing | Uniform, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draw x_s from the posterior at every position at once."""
        xt = canvas.tokens
        step = key.place
        t, s = 1 - step / self.steps, 1 - (step + 1) / self.steps
        alphas = grid.survival(process, s, xt), grid.survival(process, t, xt)
        last = step + 1 >= self.steps
        mode = self.last == "mode" and bool(last)
        log_x0 = (likeliest(denoise) if mode else denoise)(xt, grid.per_row(t, xt))
        if mode:
            xs = process.log_posterior(xt, log_x0, *alphas).argmax(-1)
        else:
            u_jump = rng.uniform(key, SITE_JUMP, xt.shape[1])
            u_target = rng.uniform(key, SITE_TARGET, xt.shape[1])
            xs = process.sample_posterior(xt, log_x0, alphas, u_jump, u_target)
        settled = (process.settled(xs) | canvas.given).all(1)
        return canvas._replace(tokens=xs), StepInfo(xs != xt, settled | last)
