"""Which ratios compensate best? A search on a few trajectories of the model itself.

Zhao et al. (2024, arXiv:2409.03755): ten samples and an accurate reference; each step's ratio is
moved along its gradient before the next one is looked at.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from unison.decode.continuous.api import Levels, State, checked, solve
from unison.decode.continuous.dc_solver import DCSolver
from unison.decode.continuous.multistep import Multistep
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser

Loss = Callable[[Tensor], Tensor]


def reference(
    denoise: EventDenoiser, starts: Event, levels: Levels, evaluations: int = 200
) -> tuple[Event, ...]:
    """Return events at each level of a grid, from a grid that is denser.

    Args:
        denoise: The model.
        starts: Events at the first level.
        levels: Falling, all above 0.
        evaluations: At least so many in all.
    """
    each = -(-evaluations // (len(levels) - 1))
    dense = [
        high * (low / high) ** (part / each)
        for high, low in pairwise(levels)
        for part in range(each)
    ]
    kept: list[Event] = []

    def keep(done: int, state: State) -> None:
        if done % each == 0:
            kept.append(state.x)

    key = Key(rng.rows(0, 0, len(starts)))
    with torch.no_grad():
        solve(Multistep(), (*dense, levels[-1]), denoise, starts, key, keep)
    return tuple(kept)


def greedy(
    solver: DCSolver,
    levels: Levels,
    denoise: EventDenoiser,
    truth: tuple[Event, ...],
    rounds: int = 40,
    rate: float = 0.1,
) -> DCSolver:
    """Return the solver with ratios that were found one after the other.

    A ratio is judged by the mean square error of the events it leads to, corrected where the
    solver will correct them.

    Args:
        solver: Its own ratios are where the search begins.
        levels: The grid, all above 0.
        denoise: The model, differentiable.
        truth: The reference at each level; its first is the start.
        rounds: Steps of AdamW for each ratio.
        rate: Of AdamW.
    """
    grid, ratios = _grid(levels, truth), _started(solver, levels)
    state = State(truth[0])
    for step in range(len(grid) - 1):
        if solver.free(step):
            ratios[step] = _improved(
                torch.tensor(ratios[step], dtype=torch.float64),
                _after(solver, grid, denoise, state, (step, truth[step + 1])),
                rounds,
                rate,
            ).item()
        with torch.no_grad():
            state = solver.taken(grid, denoise, state, step, ratios[step])
    return replace(solver, ratios=tuple(ratios))


def joint(
    solver: DCSolver,
    levels: Levels,
    denoise: EventDenoiser,
    truth: tuple[Event, ...],
    rounds: int = 100,
    rate: float = 0.02,
) -> DCSolver:
    """Return the solver with all ratios moved together, by the error at the end alone.

    Best begun from what ``greedy`` found; the arguments are the same.
    """
    grid, ratios = _grid(levels, truth), _started(solver, levels)
    free = [step for step in range(len(ratios)) if solver.free(step)]

    def loss(values: Tensor) -> Tensor:
        state = State(truth[0])
        for step in range(len(ratios)):
            ratio = values[free.index(step)] if step in free else 1.0
            state = solver.taken(grid, denoise, state, step, ratio)
        return (state.x - truth[-1]).square().mean()

    found = _improved(
        torch.tensor([ratios[step] for step in free], dtype=torch.float64), loss, rounds, rate
    )
    for step, value in zip(free, found.tolist(), strict=True):
        ratios[step] = value
    return replace(solver, ratios=tuple(ratios))


def _after(
    solver: DCSolver,
    levels: Levels,
    denoise: EventDenoiser,
    state: State,
    aim: tuple[int, Event],
) -> Loss:
    """Return the error of the events after a step as a function of its ratio."""
    step, truth = aim

    def loss(ratio: Tensor) -> Tensor:
        after = solver.taken(levels, denoise, state, step, ratio)
        if step + 2 < len(levels):  # the next step's correction is its memory
            after = State(solver.taken(levels, denoise, after, step + 1, 1.0).memory)
        return (after.x - truth).square().mean()

    return loss


def _improved(values: Tensor, loss: Loss, rounds: int, rate: float) -> Tensor:
    """Return the best values seen along the gradient, those at the start among them."""
    values = values.clone().requires_grad_()
    mover = torch.optim.AdamW([values], lr=rate, weight_decay=0.0)
    best, least = values.detach().clone(), float("inf")
    for _ in range(rounds + 1):
        with torch.enable_grad():
            error = loss(values)
        if error.item() < least:
            best, least = values.detach().clone(), error.item()
        mover.zero_grad()
        error.backward()
        mover.step()
    return best


def _grid(levels: Levels, truth: tuple[Event, ...]) -> Levels:
    grid = checked(levels)
    if grid[-1] == 0 or len(truth) != len(grid):
        raise ValueError(
            f"ratios are searched on levels above 0 with a reference at each; got {len(grid)} "
            f"levels, the last {grid[-1]:g}, and references at {len(truth)}."
        )
    return grid


def _started(solver: DCSolver, levels: Levels) -> list[float]:
    left = len(levels) - 1 - len(solver.ratios)
    return [*solver.ratios[: len(levels) - 1], *[1.0] * left]
