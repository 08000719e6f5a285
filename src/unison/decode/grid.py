"""Which noise levels does a run visit? Plain decreasing times, and their survival."""

from typing import NamedTuple

import torch
from torch import Tensor

from unison.process import Absorbing, Uniform
from unison.process.schedule import LogLinear
from unison.types import Time

_HALVINGS = 50  # time_of answers to 2^-51


class Segments(NamedTuple):
    """How many steps a run spends at high noise, in the middle and at low noise."""

    high: int
    middle: int
    low: int

    def middle_has(self, step: int) -> bool:
        """Return True if that step lies in the middle."""
        return self.high <= step < self.high + self.middle

    def middle_follows(self, step: int) -> bool:
        """Return True if a later step lies in the middle."""
        return self.middle > 0 and step + 1 < self.high + self.middle


def segments(steps: int, high: float, middle: float) -> Segments:
    """Split ``steps`` by fractions of the run; the ends are rounded to whole steps."""
    first, second = round(high * steps), round((high + middle) * steps)
    return Segments(first, second - first, steps - second)


def plateau(
    process: Absorbing | Uniform, parts: Segments, alpha_on: float, step: int, like: Tensor
) -> tuple[Time, Time]:
    """Return the times before and after that step of a run that falls, stays and falls again.

    Linear from 1 over the high segment to the time where alpha = ``alpha_on``, constant over
    the middle, linear to 0 over the low segment.
    """
    rest = time_of(process, per_row(alpha_on, like))
    return _plateau(parts, step, rest), _plateau(parts, step + 1, rest)


def _plateau(parts: Segments, step: int, rest: Time) -> Time:
    if step <= parts.high:
        return 1 + (rest - 1) * (step / parts.high)
    if step <= parts.high + parts.middle:
        return rest
    return rest * ((sum(parts) - step) / parts.low)


def per_row(t: float | Tensor, like: Tensor) -> Time:
    """Return t for each row of ``like``, float64."""
    if isinstance(t, torch.Tensor):
        return t.to(like.device, torch.float64).expand(like.shape[0])
    # Filled in there: a number that is sent to a device waits for all it has to do.
    return torch.full((like.shape[0],), t, dtype=torch.float64, device=like.device)


def survival(process: Absorbing | Uniform, t: float | Tensor, like: Tensor) -> Time:
    """Return alpha(t) for each row of ``like``, float64; exactly 1 at t=0, whatever the schedule.

    Stating alpha(0) = 1 makes the last step return clean text also under schedules that only
    come close.
    """
    time = per_row(t, like)
    return torch.where(time <= 0, torch.ones_like(time), process.schedule.alpha(time))


def time_at(process: Absorbing | Uniform, alpha: Time) -> Time:
    """Return ``time_of`` without a search where the schedule is linear in time."""
    if isinstance(process.schedule, LogLinear):
        return 1 - alpha
    return time_of(process, alpha)


def time_of(process: Absorbing | Uniform, alpha: Time) -> Time:
    """Return the time at which survival falls to ``alpha``, by bisection, float64.

    The nearer end of [0, 1] where the schedule never reaches it.
    """
    early, late = torch.zeros_like(alpha), torch.ones_like(alpha)
    for _ in range(_HALVINGS):
        middle = (early + late) / 2
        above = process.schedule.alpha(middle) > alpha
        early, late = torch.where(above, middle, early), torch.where(above, late, middle)
    return (early + late) / 2
