"""When does a run decide what it draws? The clean mean after every step.

What a model would answer if it had to stop now, D(y, s), shows its composition long before the
events do. Distilled models fix it in the first step (Gandikota and Bau, 2025, arXiv:2503.10637).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.continuous.api import Levels, Solver, State, at, checked, solve
from unison.evaluate.continuous.products import averaged
from unison.evaluate.sheet import pictures_of, sheet
from unison.prob.rng import Key
from unison.types import Estimate, Event, EventDenoiser


class Targets(NamedTuple):
    """The clean means of a run.

    Attributes:
        levels: S of them, falling.
        means: D at each, [S, B, *E]; at level 0 the events themselves.
    """

    levels: Levels
    means: Float[Tensor, "S B *E"]


def targets(
    solver: Solver, levels: Sequence[float], denoise: EventDenoiser, start: Event, key: Key
) -> Targets:
    """Run a solver and ask once more at every level, the first one too.

    The questions are beside the run: every solver is seen alike, at one evaluation a level more.
    """
    grid, means = checked(levels, denoise), []

    def watch(number: int, state: State) -> None:
        level = grid[number]
        means.append(denoise(state.x, at(level, state.x)) if level > 0 else state.x)

    solve(solver, grid, denoise, start, key, watch)
    return Targets(grid, torch.stack(means))


def likeness(found: Targets) -> Float[Tensor, "S B"]:
    """Return the cosine of each mean with the last one, both less the average of the last ones."""
    away = (found.means - found.means[-1].mean(0)).double().flatten(2)
    return torch.cosine_similarity(away, away[-1:], dim=2)


def remaining(found: Targets) -> Float[Tensor, "S B"]:
    """Return the mean squared distance of each mean from the last one."""
    return (found.means - found.means[-1]).double().square().flatten(2).mean(2)


def decided(found: Targets, share: float = 0.9) -> tuple[Float[Tensor, " B"], Estimate]:
    """Return the level from which on each row's cosine stays above a share, and the share of steps.

    The estimate is how much of the run was over by then, 0 for its first level and 1 for its last.

    Raises:
        ValueError: The share is not inside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of likeness must be above 0 and below 1, got {share}.")
    above = (likeness(found) >= share).flip(0).long().cumprod(0).sum(0)  # levels at the end
    first = (len(found.levels) - above).clamp(max=len(found.levels) - 1)
    levels = torch.tensor(found.levels, dtype=torch.float64, device=first.device)
    return levels[first], averaged(first / (len(found.levels) - 1), "of the steps")


def target_sheet(found: Targets, rows: int = 8) -> bytes:
    """Return a PNG file with a row for each event and a column for each level.

    Points of the plane have one row: a picture holds all of them.

    Raises:
        ValueError: The events are of no kind that can be drawn.
    """
    columns = [pictures_of(means[:rows] if means.ndim > 2 else means) for means in found.means]
    return sheet(torch.stack(columns, 1).flatten(0, 1), len(columns))
