"""Adaptive projected guidance (Sadat, Hilliges and Weber, 2024, arXiv:2410.02416), without memory.

The part of the guiding difference along the conditional answer makes images glaring; it is scaled
down, and the length of the whole difference is bounded. The paper's reverse momentum carries a
state from step to step and is left out: a belief is a function of the noisy event.
"""

import math
from dataclasses import dataclass, replace

from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.guidance.parts import (
    EVERYWHERE,
    check_span,
    check_weight,
    inner,
    inside,
    kept,
    known,
)
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class Projected:
    """D + (weight - 1) (across + parallel along) of the difference D - D_plain.

    Attributes:
        denoise: Whom it is guided towards.
        plain: Whom it is guided away from.
        weight: 1 is ``denoise`` itself.
        parallel: Share that is kept of the difference along D; 1 is classifier-free guidance.
        radius: Longest difference of a row, as a norm over all elements.
        between: Levels above the first and up to the second are guided.
    """

    denoise: EventDenoiser
    plain: EventDenoiser
    weight: float
    parallel: float = 0.0
    radius: float = math.inf
    between: tuple[float, float] = EVERYWHERE

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_span(self.between)
        if not self.radius > 0:
            raise ValueError(f"the radius must be above 0, got {self.radius}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels that both know."""
        return known(self.denoise, self.plain)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate both."""
        aim, plain = self.denoise(x, level), self.plain(x, level)
        off = aim - plain
        if self.radius < math.inf:
            off = off * (self.radius / inner(off, off).sqrt().clamp(min=1e-12)).clamp(max=1)
        along = aim * (inner(off, aim) / inner(aim, aim).clamp(min=1e-24))
        guided = aim + (self.weight - 1) * (off - (1 - self.parallel) * along)
        return guided.where(inside(level, self.between, x), aim)

    def keep(self, rows: Int[Tensor, " R"]) -> "Projected":
        """Return the guidance of some rows."""
        return replace(self, denoise=kept(self.denoise, rows), plain=kept(self.plain, rows))
