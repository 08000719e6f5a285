"""What if events are noisier than their level says? The denoiser is asked at the level they have.

TS-DPM (Li et al., 2024, arXiv:2305.15583): a model's own errors make x_t noisier than in
training. The variance over the elements of each event tells by how much.
"""

from dataclasses import dataclass

import torch

from unison.types import Event, EventDenoiser, Level


@dataclass(frozen=True)
class TimeShift:
    """A denoiser that is asked at the level whose noise a row seems to have.

    Differs: the published rule compares the variance of an event with that of noise alone, which
    is right where little signal is left; here that of the data is added. With an exact denoiser
    nothing is gained. Events need many elements, a hundred or more, for a variance to be known.

    Attributes:
        denoise: Who is asked.
        spread: Mean variance over the elements within a clean event (``within``).
        window: The level moves by this share at most, up or down.
        cutoff: Below this level it is left alone: there the variance is that of the data.
    """

    denoise: EventDenoiser
    spread: float
    window: float = 0.3
    cutoff: float = 0.3

    def __post_init__(self) -> None:
        if not (self.spread >= 0 and self.window >= 0 and self.cutoff >= 0):
            raise ValueError(
                f"spread, window and cutoff must be at least 0, got {self.spread}, "
                f"{self.window} and {self.cutoff}."
            )

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the answer at the shifted level."""
        return self.denoise(x, self.shifted(x, level))

    def shifted(self, x: Event, level: Level) -> Level:
        """Return s' of each row, with s'^2 + spread nearest the variance of its elements."""
        seen = x.flatten(1).var(1, correction=0) - self.spread
        low, high = level / (1 + self.window), level * (1 + self.window)
        found = seen.clamp(min=0).sqrt().to(level).clamp(low, high)
        return torch.where(level > self.cutoff, found, level)


def within(samples: Event) -> float:
    """Return the mean variance over the elements within an event."""
    return samples.double().flatten(1).var(1, correction=0).mean().item()
