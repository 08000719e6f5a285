"""Which noise levels does a run visit? Grids are plain data: a falling tuple of levels."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from unison.decode.continuous.api import Levels
from unison.process.continuous import GaussianProcess


class Span(NamedTuple):
    """Between which levels a grid is laid.

    Attributes:
        high: The first level.
        low: The last one above 0.
        process: What the model was trained to undo: grids in time need it.
        spread: Standard deviation of the data.
    """

    high: float
    low: float
    process: GaussianProcess
    spread: float = 1.0


@runtime_checkable
class Grid(Protocol):
    """A rule for levels; its fields are its configuration."""

    def levels(self, span: Span, intervals: int) -> Levels:
        """Return ``intervals`` + 1 levels from ``span.high`` to ``span.low``."""
        ...


@dataclass(frozen=True)
class TimePower:
    """Equal steps in t^(1/power): 1 is linear in time, 2 quadratic, dense near clean data.

    Attributes:
        power: How dense.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        _check_above_zero("power", self.power)

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step in the process's time."""
        ends = torch.tensor([span.high, span.low], dtype=torch.float64)
        high, low = (span.process.time_of(ends) ** (1 / self.power)).tolist()
        times = torch.tensor(_steps(high, low, intervals), dtype=torch.float64) ** self.power
        return _with_ends(span.process.level(times).tolist(), span)


@dataclass(frozen=True)
class LogSNR:
    """Equal steps in log s (DPM-Solver, arXiv:2206.00927)."""

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step in log s."""
        return _with_ends(
            [math.exp(u) for u in _steps(math.log(span.high), math.log(span.low), intervals)], span
        )


@dataclass(frozen=True)
class Karras:
    """Equal steps in s^(1/rho) (Karras et al., 2022, arXiv:2206.00364, eq. 5).

    Attributes:
        rho: How dense the grid is near clean data.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_above_zero("rho", self.rho)

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step in a root of s."""
        roots = _steps(span.high ** (1 / self.rho), span.low ** (1 / self.rho), intervals)
        return _with_ends([root**self.rho for root in roots], span)


@dataclass(frozen=True)
class CosineSNR:
    """Equal steps in arctan s: equal angles between signal and noise (arXiv:2102.09672)."""

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step in the angle."""
        angles = _steps(math.atan(span.high), math.atan(span.low), intervals)
        return _with_ends([math.tan(angle) for angle in angles], span)


@dataclass(frozen=True)
class Knee:
    """One step from the highest level to a few spreads of the data, then equal steps in log s.

    Far above the data's spread the belief is their mean and a linear function of y: a solver that
    knows their covariance crosses that region at once.

    Attributes:
        spreads: The second level, in standard deviations of the data.
    """

    spreads: float = 4.0

    def __post_init__(self) -> None:
        _check_above_zero("spreads", self.spreads)

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step once, then in log s."""
        knee = self.spreads * span.spread
        if intervals < 2 or not span.low < knee < span.high:
            return LogSNR().levels(span, intervals)
        rest = _steps(math.log(knee), math.log(span.low), intervals - 1)
        return _with_ends([span.high, *map(math.exp, rest)], span)


@dataclass(frozen=True)
class FlowShift:
    """Equal steps in t = s / (1 + s), then s' = shift s: flow models of large images.

    Attributes:
        shift: Above 1 spends more steps at high noise (arXiv:2403.03206, eq. 23).
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        _check_above_zero("shift", self.shift)

    def levels(self, span: Span, intervals: int) -> Levels:
        """Step in the time of a straight path, shifted."""
        high, low = (end / self.shift for end in (span.high, span.low))
        times = _steps(high / (1 + high), low / (1 + low), intervals)
        return _with_ends([self.shift * t / (1 - t) for t in times], span)


@dataclass(frozen=True)
class AlignYourSteps:
    """Levels that were optimised for a latent image model (Sabour et al., 2024, arXiv:2404.14507).

    Their ten levels above 0, interpolated in log s for other numbers of steps, and stretched in
    log s to the ends of the span. Another model has another optimum.
    """

    def levels(self, span: Span, intervals: int) -> Levels:
        """Interpolate the table."""
        logs = np.log(np.array(_ALIGNED))
        shares = (logs - logs[-1]) / (logs[0] - logs[-1])
        places = _steps(0.0, len(shares) - 1.0, intervals)
        wide = math.log(span.high / span.low)
        along = np.interp(places, np.arange(len(shares)), shares).tolist()
        return _with_ends([span.low * math.exp(share * wide) for share in along], span)


_ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152)


GRIDS: dict[str, type[Grid]] = {
    "ays": AlignYourSteps,
    "cosine": CosineSNR,
    "flow": FlowShift,
    "karras": Karras,
    "knee": Knee,
    "logsnr": LogSNR,
    "time": TimePower,
}


def _steps(first: float, last: float, intervals: int) -> list[float]:
    if intervals < 1:
        raise ValueError(f"a grid needs at least 1 interval, got {intervals}.")
    return [first + (last - first) * i / intervals for i in range(intervals + 1)]


def _with_ends(levels: list[float], span: Span) -> Levels:
    """Return the levels with their ends exactly as asked, whatever rounding did."""
    if not 0 < span.low < span.high:
        raise ValueError(f"0 < low < high is needed, got {span.low} and {span.high}.")
    return (span.high, *levels[1:-1], span.low)


def _check_above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}.")
