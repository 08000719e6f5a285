"""CFG-Zero* (Fan et al., 2025, arXiv:2503.18886): the plain answer is fitted to the guiding one.

The plain velocity is multiplied with the number that brings it nearest the conditional velocity,
row by row, before it is subtracted; and the first, worst levels are not moved at all. Velocities
depend on the frame: here it is the noise (y - D) / s, the slope dy/ds of every Gaussian process.
"""

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
class ClassifierFreeZero:
    """y - D = a n + weight (m - a n), with m and n the noises of both and a = <m, n> / <n, n>.

    Attributes:
        denoise: Whom it is guided towards.
        plain: Whom it is guided away from.
        weight: 1 is ``denoise`` itself.
        moving: Levels above the first and up to the second are moved; above them the answer is
            the noisy event, so that nothing moves. All by default.
    """

    denoise: EventDenoiser
    plain: EventDenoiser
    weight: float
    moving: tuple[float, float] = EVERYWHERE

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_span(self.moving)

    @property
    def span(self) -> tuple[float, float]:
        """The levels that both know."""
        return known(self.denoise, self.plain)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate both."""
        aim, plain = x - self.denoise(x, level), x - self.plain(x, level)
        fitted = plain * (inner(aim, plain) / inner(plain, plain).clamp(min=1e-24))
        guided = x - fitted - self.weight * (aim - fitted)
        return guided.where(inside(level, self.moving, x), x)

    def keep(self, rows: Int[Tensor, " R"]) -> "ClassifierFreeZero":
        """Return the guidance of some rows."""
        return replace(self, denoise=kept(self.denoise, rows), plain=kept(self.plain, rows))
