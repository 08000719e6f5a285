"""What did a published model undo? A table of noise levels, one for each of its time steps."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unison.process.continuous.gaussian import Values


@dataclass(frozen=True)
class Tabulated:
    """A variance-preserving process whose level is known at equal steps of time.

    Between the steps log s is linear in t, beyond the ends it stays: a model knows nothing there.

    Attributes:
        levels: s at t = 0, 1/(T-1), ..., 1, rising from above 0.
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.levels, self.levels[1:], strict=False))
        if len(self.levels) < 2 or not (self.levels[0] > 0 and rising):
            raise ValueError("a table of levels needs at least two, rising from above 0.")
        if not math.isfinite(self.levels[-1]):
            raise ValueError("the last level of a table is infinite; end it a step earlier.")

    def alpha(self, t: Values) -> Values:
        """Evaluate 1 / sqrt(1 + s^2) at t."""
        return (1 + self.level(t).square()).rsqrt()

    def level(self, t: Values) -> Values:
        """Interpolate s."""
        logs = self._logs.to(t.device)
        place = (t.double() * (len(logs) - 1)).clamp(0, len(logs) - 1)
        below = place.floor().long().clamp(max=len(logs) - 2)
        along = place - below
        return torch.lerp(logs[below], logs[below + 1], along).exp().to(t.dtype)

    def time_of(self, level: Values) -> Values:
        """Invert s."""
        logs, log = self._logs.to(level.device), level.double().log()
        below = (torch.searchsorted(logs, log, right=True) - 1).clamp(0, len(logs) - 2)
        along = (log - logs[below]) / (logs[below + 1] - logs[below])
        return ((below + along.clamp(0, 1)) / (len(logs) - 1)).to(level.dtype)

    @cached_property
    def _logs(self) -> Tensor:
        return torch.tensor(self.levels, dtype=torch.float64).log()
