"""How often is each noise level trained? Laws of levels, drawn by inverting their distribution."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from unison.process.continuous import GaussianProcess
from unison.types import Level


@runtime_checkable
class LevelLaw(Protocol):
    """A law of levels, conditioned on a range."""

    def draw(
        self, process: GaussianProcess, strata: Float[Tensor, " B"], low: Level, high: Level
    ) -> Level:
        """Return s for each row, float64, in [low, high], rising with the row's uniform.

        Args:
            process: What laws of time are about.
            strata: Uniforms.
            low: Lowest level of each row, at least 0.
            high: Highest level of each row; may be infinite.
        """
        ...


@dataclass(frozen=True)
class LogNormal:
    """log s is normal (Karras et al., 2022, arXiv:2206.00364, table 1).

    Attributes:
        mean: Of log s, where the data have standard deviation 0.5.
        std: Of log s.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"levels.std must be above 0, got {self.std}.")

    def draw(
        self, process: GaussianProcess, strata: Float[Tensor, " B"], low: Level, high: Level
    ) -> Level:
        """Invert the part of the law that is in range."""
        first, last = (
            torch.special.ndtr((end.double().log() - self.mean) / self.std) for end in (low, high)
        )
        u = first + strata.double() * (last - first)
        drawn = (self.mean + self.std * torch.special.ndtri(u)).exp()
        return drawn.clamp(low.double(), high.double())


@dataclass(frozen=True)
class UniformTime:
    """The process's time is uniform (DDPM, arXiv:2006.11239; flow matching, arXiv:2210.02747).

    Attributes:
        earliest: The least time; formulas may divide by the level at 0.
    """

    earliest: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.earliest < 1:
            raise ValueError(f"levels.earliest must be in (0, 1), got {self.earliest}.")

    def draw(
        self, process: GaussianProcess, strata: Float[Tensor, " B"], low: Level, high: Level
    ) -> Level:
        """Step along the time that is in range."""
        first, last = _times(process, low, high, self.earliest)
        return process.level(first + strata.double() * (last - first))


@dataclass(frozen=True)
class LogitNormalTime:
    """log(t / (1 - t)) is normal: middle times more often (Esser et al., 2024, arXiv:2403.03206).

    Attributes:
        mean: Of the logit; above 0 for more noise.
        std: Of the logit.
        earliest: The least time.
    """

    mean: float = 0.0
    std: float = 1.0
    earliest: float = 1e-3

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"levels.std must be above 0, got {self.std}.")
        if not 0 < self.earliest < 1:
            raise ValueError(f"levels.earliest must be in (0, 1), got {self.earliest}.")

    def draw(
        self, process: GaussianProcess, strata: Float[Tensor, " B"], low: Level, high: Level
    ) -> Level:
        """Invert the part of the law that is in range."""
        ends = _times(process, low, high, self.earliest)
        first, last = (
            torch.special.ndtr((torch.special.logit(end) - self.mean) / self.std) for end in ends
        )
        u = first + strata.double() * (last - first)
        time = (self.mean + self.std * torch.special.ndtri(u)).sigmoid()
        return process.level(time.clamp(*ends))


LEVELS: dict[str, type[LevelLaw]] = {
    "log_normal": LogNormal,
    "logit_normal_time": LogitNormalTime,
    "uniform_time": UniformTime,
}


def _times(
    process: GaussianProcess, low: Level, high: Level, earliest: float
) -> tuple[Tensor, Tensor]:
    """Return the times of a range of levels, within the process's own."""
    ends = torch.tensor([earliest, 1.0], dtype=torch.float64, device=low.device)
    least, most = process.level(ends)
    return (
        process.time_of(low.double().clamp(least, most)),
        process.time_of(high.double().clamp(least, most)),
    )
