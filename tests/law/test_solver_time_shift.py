"""Time shift: the level is read off the events, harms exact models and mends biased ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from unison.decode.continuous import GRIDS, Levels, Solver, Span, State, solve
from unison.decode.continuous.multistep import Multistep
from unison.decode.continuous.time_shift import TimeShift, within
from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous import VariancePreserving
from unison.types import Event, EventDenoiser, Law, Level

SIZE, ROWS, SPREAD = 256, 64, 0.2


def _key(rows: int, seed: int = 0) -> Key:
    return Key(rng.rows(seed, 0, rows))


@dataclass(frozen=True)
class Clouds:
    """Round components of one variance in many dimensions."""

    means: Tensor

    def __call__(self, x: Event, level: Level) -> Event:
        total = (SPREAD + level.square())[:, None]
        shares = (-torch.cdist(x, self.means).square() / (2 * total)).softmax(1)
        kept = SPREAD / total
        return (1 - kept) * (shares @ self.means) + kept * x

    def sample(self, rows: int) -> Tensor:
        noise = math.sqrt(SPREAD) * rng.normal(_key(rows, 9), 4, SIZE)
        return self.means[torch.arange(rows) % len(self.means)] + noise


@dataclass(frozen=True)
class Inflated:
    """A solver whose every step makes events a little too large."""

    solver: Solver
    by: float
    law: ClassVar[Law] = Law.GREEDY

    def evaluations(self, intervals: int) -> int:
        return self.solver.evaluations(intervals)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        after = self.solver.step(levels, denoise, state, key)
        return after._replace(x=after.x * (1 + self.by))


def _clouds() -> Clouds:
    return Clouds(0.9 * rng.normal(_key(4, 5), 3, SIZE))


def _end(by: float, denoise: EventDenoiser, count: int = 20) -> Tensor:
    levels = GRIDS["karras"]().levels(Span(80.0, 0.02, VariancePreserving()), count)
    start = 80 * rng.normal(_key(ROWS), 5, SIZE)
    return solve(Inflated(Multistep(2, "data"), by), levels, denoise, start, _key(ROWS)).x


def _shifted(clouds: Clouds) -> TimeShift:
    return TimeShift(clouds, within(clouds.sample(400)), window=0.3, cutoff=0.0)


def _off(end: Tensor, clouds: Clouds) -> float:
    """Return the mean square distance of an element to the nearest centre: 0.2 in the data."""
    return torch.cdist(end, clouds.means).amin(1).square().mean().item() / SIZE


def test_an_exact_model_is_not_helped() -> None:
    clouds = _clouds()
    exact = _end(0.0, clouds, 200)

    def error(end: Tensor) -> float:
        return (end - exact).square().sum(1).mean().sqrt().item()

    assert error(_end(0.0, _shifted(clouds))) > error(_end(0.0, clouds))


@pytest.mark.parametrize("by", [0.01, 0.02])
def test_half_of_what_a_bias_costs_is_recovered(by: float) -> None:
    clouds = _clouds()
    sound = _off(_end(0.0, clouds), clouds)
    lost = _off(_end(by, clouds), clouds) - sound
    left = _off(_end(by, _shifted(clouds)), clouds) - sound
    assert lost > 0.1
    assert abs(left) < 0.5 * lost


def test_the_level_is_found_from_noise_and_data_together() -> None:
    clouds, levels = _clouds(), (2.0, 4.0, 10.0)
    clean = clouds.sample(200)
    for level in levels:
        noisy = clean + level * rng.normal(_key(200, 3), 8, SIZE)
        told = torch.full((200,), 0.9 * level, dtype=torch.float64)
        found = _shifted(clouds).shifted(noisy, told)
        assert found.mean().item() == pytest.approx(level, rel=0.03)


def test_the_window_bounds_the_shift_and_the_cutoff_ends_it() -> None:
    x = 100 * rng.normal(_key(2), 1, SIZE)
    clouds = _clouds()
    for told, expected in ((10.0, 12.0), (1.0, 1.0), (1000.0, 1000 / 1.2)):
        level = torch.full((2,), told, dtype=torch.float64)
        found = TimeShift(clouds, 1.0, window=0.2, cutoff=1.0).shifted(x, level)
        torch.testing.assert_close(found, torch.full_like(level, expected))
    level = torch.tensor([10.0, 20.0], dtype=torch.float64)
    still = TimeShift(clouds, 1.0, window=0.0, cutoff=0.0)
    torch.testing.assert_close(still(x, level), clouds(x, level))


def test_each_row_is_shifted_by_its_own_variance() -> None:
    x = torch.cat([10 * rng.normal(_key(1), 1, SIZE), 11 * rng.normal(_key(1, 2), 1, SIZE)])
    level = torch.tensor([10.0, 10.0], dtype=torch.float64)
    shift = TimeShift(_clouds(), 0.0, window=0.5)
    both = shift.shifted(x, level)
    for row in (0, 1):
        alone = shift.shifted(x[row : row + 1], level[:1])
        torch.testing.assert_close(alone, both[row : row + 1])
        seen = x[row].var(correction=0).sqrt()
        torch.testing.assert_close(both[row], seen)


def test_settings_below_zero_are_refused() -> None:
    for fields in ((-1.0, 0.1, 0.1), (1.0, -0.1, 0.1), (1.0, 0.1, -0.1)):
        with pytest.raises(ValueError, match="must be at least 0"):
            TimeShift(_clouds(), *fields)
