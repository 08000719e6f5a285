"""The contract of solvers: a frozen dataclass with a pure step; one driver runs all."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law, Level, Ranged, Spreading

Levels = tuple[float, ...]  # decreasing; the last may be 0


class Past(NamedTuple):
    """An evaluation that was made.

    Attributes:
        level: The level it was made at.
        x: The events that were shown.
        mean: What the denoiser answered.
    """

    level: float
    x: Event
    mean: Event

    @property
    def noise(self) -> Event:
        """The noise in y as the answer has it."""
        return (self.x - self.mean) / self.level


class State(NamedTuple):
    """Where the rows stand.

    Attributes:
        x: The events, in the frame of their process (``EventDenoiser``).
        history: Earlier evaluations, newest first; as many as the solver reads.
        memory: What else it carries from step to step: ``None``, a tensor with rows first, or a
            tuple of such.
    """

    x: Event
    history: tuple[Past, ...] = ()
    memory: Any = None


@runtime_checkable
class Solver(Protocol):
    """One way from a level to the next.

    Implementations are frozen dataclasses whose fields *are* the configuration. A solver never
    steps to level 0: from the last level above it the driver takes the denoiser's answer.
    """

    law: ClassVar[Law]

    def evaluations(self, intervals: int) -> int:
        """Return how often the denoiser is called over that many intervals of a grid."""
        ...

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Go from ``levels[key.step]`` to the next one. Pure: equal arguments, equal results.

        Args:
            levels: The whole grid, all above 0: what is still to come decides about orders.
            denoise: The model.
            state: The rows at ``levels[key.step]``.
            key: One random stream per row; its step counts from 0.
        """
        ...


OnSolved = Callable[[int, State], None]


class Drawn(NamedTuple):
    """The driver's result.

    Attributes:
        x: The events at the last level.
        nfe: Denoiser evaluations per row.
    """

    x: Event
    nfe: int


def solve(
    solver: Solver,
    levels: Sequence[float],
    denoise: EventDenoiser,
    start: Event,
    key: Key,
    on_step: OnSolved | None = None,
) -> Drawn:
    """Take the rows from the first level to the last.

    Args:
        solver: The rule.
        levels: Decreasing; a last level of 0 ends with the denoiser's own answer, one evaluation.
        denoise: The model; its answers are cast to the type of ``start``.
        start: The rows at the first level, in the frame of their process.
        key: One random stream per row.
        on_step: Observer; called with 0 and the first state, then with the number of steps done.

    Raises:
        ValueError: The levels are no grid, or outside what the model knows; the model answers
            with another shape, or with numbers that are not finite.
    """
    grid = checked(levels, denoise)
    watch = Watched(denoise)
    state = State(start)
    if on_step is not None:
        on_step(0, state)
    above = grid[:-1] if grid[-1] == 0 else grid
    for step in range(len(above) - 1):
        state = solver.step(above, watch, state, Key(key.seed, step))
        if on_step is not None:
            on_step(step + 1, state)
    if grid[-1] == 0:
        state = State(asked(watch, state.x, above[-1]).mean)
        if on_step is not None:
            on_step(len(above), state)
    _check_finite(state.x, watch.sound)
    return Drawn(state.x, watch.calls)


def asked(denoise: EventDenoiser, x: Event, level: float) -> Past:
    """Evaluate the denoiser on all rows at one level."""
    return Past(level, x, denoise(x, at(level, x)))


def spreading(denoise: EventDenoiser) -> Spreading:
    """Return the model as one that says how sure it is.

    Raises:
        ValueError: It does not.
    """
    if isinstance(denoise, Spreading):
        return denoise
    raise ValueError(
        f"this solver asks the model for variances, and {type(denoise).__name__} has no "
        "`moments`; turn the correction off, or give a denoiser that says how sure it is."
    )


def at(level: float, x: Event) -> Level:
    """Return one level for each row of ``x``."""
    return torch.full((len(x),), level, dtype=x.dtype, device=x.device)


def over(values: Level, x: Event) -> Tensor:
    """Return a number for each row, to be multiplied with events."""
    return values.view(-1, *[1] * (x.ndim - 1))


def checked(levels: Sequence[float], denoise: EventDenoiser | None = None) -> Levels:
    """Return the levels as a grid.

    Raises:
        ValueError: There are fewer than two, they do not fall, the last is below 0, or the
            denoiser says that it does not know them.
    """
    grid = tuple(float(level) for level in levels)
    if len(grid) < 2:
        raise ValueError(f"a grid needs at least two levels, got {len(grid)}.")
    for place, (high, low) in enumerate(pairwise(grid)):
        if not (math.isfinite(high) and low < high):
            raise ValueError(
                f"the levels of a grid must be finite and fall strictly; number {place} is {high} "
                f"and number {place + 1} is {low}."
            )
    if grid[-1] < 0:
        raise ValueError(f"the last level must be at least 0, got {grid[-1]}.")
    if isinstance(denoise, Ranged):
        _check_span(grid, denoise.span)
    return grid


def _check_span(grid: Levels, span: tuple[float, float]) -> None:
    low, high = span
    asked = [level for level in grid if level > 0]
    slack = 1e-6  # rounding of a grid's ends
    if asked[0] > high * (1 + slack) or asked[-1] < low * (1 - slack):
        raise ValueError(
            f"the model knows levels from {low:.6g} to {high:.6g}, the grid goes from "
            f"{asked[0]:.6g} to {asked[-1]:.6g}; choose a grid inside the model's range."
        )


@dataclass
class Watched:
    """A denoiser whose answers are counted and checked as they pass, without waiting for them.

    Attributes:
        denoise: Who answers.
        calls: Evaluations so far.
        sound: For each evaluation, whether all its numbers were finite.
    """

    denoise: EventDenoiser
    calls: int = 0
    sound: tuple[Tensor, ...] = ()

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the answer in the type of ``x``.

        Raises:
            ValueError: The answer has another shape.
        """
        return self._seen(x, self.denoise(x, level))

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        """Return the mean and the variances in the type of ``x``: one evaluation.

        Raises:
            ValueError: The model does not say how sure it is, or the mean has another shape.
        """
        mean, spread = spreading(self.denoise).moments(x, level)
        return self._seen(x, mean), spread.to(x.dtype)

    def _seen(self, x: Event, mean: Tensor) -> Event:
        if mean.shape != x.shape:
            raise ValueError(
                f"the denoiser was given events {tuple(x.shape)} and answered "
                f"{tuple(mean.shape)}; it must return the mean of the clean event, of its shape."
            )
        self.calls += 1
        self.sound = (*self.sound, mean.isfinite().all())
        return mean.to(x.dtype)


def _check_finite(x: Event, sound: Sequence[Tensor]) -> None:
    flags = torch.stack([*sound, x.isfinite().all()]).tolist()
    if all(flags):
        return
    first = flags.index(False)
    if first < len(sound):
        raise ValueError(
            f"the denoiser's answer number {first + 1} of {len(sound)} holds NaN or infinity. "
            "Check the model at that level; float16 overflows at high levels."
        )
    raise ValueError(
        "the solver's own numbers overflowed although every answer was finite; take more steps "
        "or a lower order."
    )
