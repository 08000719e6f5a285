"""How is an answer kept inside the range of the data? Clipping, and dynamic thresholding."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.continuous.api import over
from unison.decode.continuous.guidance.parts import kept, known
from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class Clipped:
    """Every element of the answer is brought into a range.

    Attributes:
        denoise: Whose answer.
        low: Least value of the data.
        high: Greatest.
    """

    denoise: EventDenoiser
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a range needs low < high, got {self.low} and {self.high}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate and clip."""
        return self.denoise(x, level).clamp(self.low, self.high)

    def keep(self, rows: Int[Tensor, " R"]) -> "Clipped":
        """Return the same of some rows."""
        return replace(self, denoise=kept(self.denoise, rows))


@dataclass(frozen=True)
class Thresholded:
    """Dynamic thresholding (Saharia et al., 2022, arXiv:2205.11487), for bounded data only.

    Of each row, |D| has the quantile q; D is clipped to max(q, bound) and scaled back to
    ``bound``. A row whose quantile is inside the bound is clipped and nothing else.

    Attributes:
        denoise: Whose answer.
        quantile: Which, over all elements of a row.
        bound: Greatest absolute value of the data.
    """

    denoise: EventDenoiser
    quantile: float = 0.995
    bound: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise ValueError(f"the quantile must be above 0 and at most 1, got {self.quantile}.")
        if not self.bound > 0:
            raise ValueError(f"the bound must be above 0, got {self.bound}.")

    @property
    def span(self) -> tuple[float, float]:
        """The levels the denoiser knows."""
        return known(self.denoise)

    def __call__(self, x: Event, level: Level) -> Event:
        """Evaluate, clip and scale."""
        mean = self.denoise(x, level)
        sizes = mean.detach().abs().flatten(1)
        # By sorting: torch.quantile refuses rows of more than 16 million elements.
        place = self.quantile * (sizes.shape[1] - 1)
        ordered = sizes.sort(1).values
        low, high = ordered[:, int(place)], ordered[:, min(int(place) + 1, sizes.shape[1] - 1)]
        limit = over(torch.lerp(low, high, place - int(place)).clamp(min=self.bound), mean)
        return mean.clamp(-limit, limit) * (self.bound / limit)

    def keep(self, rows: Int[Tensor, " R"]) -> "Thresholded":
        """Return the same of some rows."""
        return replace(self, denoise=kept(self.denoise, rows))
