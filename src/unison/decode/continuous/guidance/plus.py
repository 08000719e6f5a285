"""CFG++ (Chung et al., 2024, arXiv:2406.08070): the noise that is put back is the plain one.

A DDIM step from s to s' = r s becomes y' = D_w + r (y - D_plain), with D_w = D_plain +
strength (D - D_plain). Asked which answer A makes the ordinary step r y + (1 - r) A end there,
A = D_plain + strength / (1 - r) (D - D_plain): classifier-free guidance whose weight follows from
the grid, small steps being guided most. Other solvers may so use it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import checked, over
from unison.decode.continuous.guidance.parts import check_weight, kept, known
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class ClassifierFreePlus:
    """D_plain + strength / (1 - s'/s) (D - D_plain), s' being the grid's next level below s.

    Attributes:
        denoise: Whom it is guided towards.
        plain: Whom it is guided away from.
        strength: From 0 to 1 as published.
        levels: The grid that is solved on. Below its last level the ratio s'/s counts as 0.
    """

    denoise: EventDenoiser
    plain: EventDenoiser
    strength: float
    levels: Sequence[float]

    def __post_init__(self) -> None:
        check_weight(self.strength, least=0.0)
        checked(self.levels)

    @property
    def span(self) -> tuple[float, float]:
        """The levels that both know."""
        return known(self.denoise, self.plain)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate both."""
        aim, plain = self.denoise(x, level), self.plain(x, level)
        grid = level.new_tensor([*self.levels, 0.0])
        # A level that was rounded on its way here is still itself, not the one above.
        place = (grid >= level[:, None] * (1 - 1e-6)).sum(1).clamp(max=len(grid) - 1)
        ratio = torch.minimum(grid[place] / level, level.new_tensor(1 - 1e-6))
        return plain + over(self.strength / (1 - ratio), x) * (aim - plain)

    def keep(self, rows: Int[Tensor, " R"]) -> "ClassifierFreePlus":
        """Return the guidance of some rows."""
        return replace(self, denoise=kept(self.denoise, rows), plain=kept(self.plain, rows))
