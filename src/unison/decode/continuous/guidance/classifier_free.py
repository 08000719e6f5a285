"""Classifier-free guidance (Ho and Salimans, 2022, arXiv:2207.12598) and its usual refinements.

Only between two levels (Kynkaanniemi et al., 2024, arXiv:2404.07724); rescaled to the spread of
the conditional answer (Lin et al., 2023, arXiv:2305.08891). With a weaker model in the place of
the one without a condition it is autoguidance (Karras et al., 2024, arXiv:2406.02507).
"""

from dataclasses import dataclass, replace

from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.guidance.parts import (
    EVERYWHERE,
    check_span,
    check_weight,
    inside,
    kept,
    known,
)
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class ClassifierFree:
    """D_plain + weight (D - D_plain).

    Attributes:
        denoise: Whom it is guided towards: a model with its condition, or the better model.
        plain: Whom it is guided away from: the model without a condition, or a weaker one.
        weight: 1 is ``denoise`` itself, 0 is ``plain``.
        between: Levels above the first and up to the second are guided, others get ``denoise``.
        rescale: How much of the guided answer's spread over a row is put back to that of
            ``denoise``: 0 none, 1 all; 0.7 is customary at weights above 5.
    """

    denoise: EventDenoiser
    plain: EventDenoiser
    weight: float
    between: tuple[float, float] = EVERYWHERE
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_span(self.between)
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale must be from 0 to 1, got {self.rescale}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels that both know."""
        return known(self.denoise, self.plain)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate both."""
        aim, plain = self.denoise(x, level), self.plain(x, level)
        guided = _rescaled(plain + self.weight * (aim - plain), aim, self.rescale)
        return guided.where(inside(level, self.between, x), aim)

    def keep(self, rows: Int[Tensor, " R"]) -> "ClassifierFree":
        """Return the guidance of some rows."""
        return replace(self, denoise=kept(self.denoise, rows), plain=kept(self.plain, rows))


def _rescaled(guided: Event, aim: Event, share: float) -> Event:
    if share == 0:
        return guided
    axes = tuple(range(1, guided.ndim))
    wanted = aim.std(axes, keepdim=True)
    # A row of equal elements has no spread to rescale: it is left as it is.
    has = guided.std(axes, keepdim=True)
    factor = (wanted / has.clamp(min=1e-12)).where(has > 1e-12, 1.0)
    return guided * (1 - share + share * factor)
