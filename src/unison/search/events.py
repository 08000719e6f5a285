"""How is a solver of continuous data searched? Its state can be kept, copied and noised again."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.api import selected
from unison.decode.continuous.api import Levels, Solver, State, Watched, at, checked
from unison.decode.continuous.guidance.parts import kept
from unison.prob import rng
from unison.prob.rng import Key
from unison.search.api import Moved
from unison.types import Event, EventDenoiser, Level, Spreading

SITE_NEAR, SITE_BACK, SITE_GUESS = 0x7FFFFF61, 0x7FFFFF62, 0x7FFFFF63


class Answer(NamedTuple):
    """What the model said of events.

    Attributes:
        mean: E[x_0 | x].
        variance: Of each element; ``None`` where it was not asked for.
    """

    mean: Event
    variance: Event | None = None


class EventState(NamedTuple):
    """Events under way.

    Attributes:
        x: The events, in the frame of their process.
        denoise: Who is asked about them.
        solver: The solver's own state.
        step: How many steps of the grid are behind them.
        level: Where they stand.
        origin: The step the solver began at, later than the first after noising again.
        answer: What the model said of them, if it was asked.
    """

    x: Event
    denoise: EventDenoiser
    solver: State
    step: int
    level: float
    origin: int = 0
    answer: Answer | None = None


@dataclass(frozen=True)
class EventRun:
    """A solver on a grid, as searches see it.

    Attributes:
        solver: The rule; searches that choose between copies need one with noise in its steps.
        levels: The grid; from the last level above 0 to 0 the denoiser's answer is taken.
        denoise: The model; one with ``keep`` is asked about the rows it is kept for.
        shape: Of one event.
        draws: Whether guesses may be drawn from the belief: the model must know its variance
            (``Spreading``); draws are Gaussian, independent over elements.
        dtype: Of the events.
    """

    solver: Solver
    levels: Levels
    denoise: EventDenoiser
    shape: tuple[int, ...]
    draws: bool = False
    dtype: torch.dtype = field(default=torch.float32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", checked(self.levels, self.denoise))
        if self.draws and not isinstance(self.denoise, Spreading):
            raise ValueError(
                "guesses can be drawn only from a denoiser that knows its variance (moments); use "
                "draws=False, whose guesses are means."
            )

    @property
    def steps(self) -> int:
        """The intervals of the grid."""
        return len(self.levels) - 1

    def start(self, key: Key, rows: Int[Tensor, " R"]) -> EventState:
        """Draw noise at the first level."""
        x = self.levels[0] * self._noise(key.at(0), rng.SITE_PRIOR)
        return EventState(x, kept(self.denoise, rows), State(x), 0, self.levels[0])

    def look(self, state: EventState, key: Key) -> Moved:
        """Ask for the mean, and for the variance if guesses are drawn: one evaluation."""
        if state.answer is not None or state.step == self.steps:
            return Moved(state, _cost(state.x, 0))
        watch, level = Watched(state.denoise), at(state.level, state.x)
        if self.draws:
            answer = Answer(*watch.moments(state.x, level))
        else:
            answer = Answer(watch(state.x, level))
        return Moved(state._replace(answer=answer), _cost(state.x, 1))

    def guess(self, state: EventState, key: Key | None = None) -> Event:
        """Return the mean, or Gaussian draws around it."""
        if state.step == self.steps:
            return state.x
        if state.answer is None:
            raise ValueError("a guess needs the model's answer; look at the states first.")
        mean, variance = state.answer
        if key is None:
            return mean
        if variance is None:
            raise ValueError("this run's guesses are means; make it with draws=True to draw them.")
        return mean + variance.sqrt() * self._noise(key.at(state.step), SITE_GUESS)

    def advance(self, state: EventState, key: Key) -> Moved:
        """Go to the next level."""
        if state.step == self.steps:
            return Moved(state, _cost(state.x, 0))
        after = self.levels[state.step + 1]
        if after == 0:
            state, cost = self.look(state, key)
            x = self.guess(state)
            moved = State(x)
        else:
            asked = _Asked(Watched(state.denoise), state)
            seed = key.seed if state.origin == 0 else rng.derived(key.seed, state.origin)
            grid = self._above[state.origin :]
            moved = self.solver.step(
                grid, asked, state.solver, Key(seed, state.step - state.origin)
            )
            cost = _cost(state.x, asked.watch.calls)
        step = state.step + 1
        return Moved(EventState(moved.x, state.denoise, moved, step, after, state.origin), cost)

    def finish(self, state: EventState) -> Event:
        """Return the events."""
        return state.x

    def fork(self, state: EventState, rows: Int[Tensor, " R"]) -> EventState:
        """Copy rows, histories and answers included."""
        solver = selected(state.solver, rows)
        return state._replace(
            x=solver.x,
            denoise=kept(state.denoise, rows),
            solver=solver,
            answer=selected(state.answer, rows),
        )

    def near(self, state: EventState, spread: float, key: Key) -> EventState:
        """Mix in fresh noise: x' = sqrt(1 - spread^2) x + spread s_0 noise.

        Differs: Ma et al. (2025, arXiv:2501.09732) renormalise x + spread noise, which keeps the
        norm; here every neighbour is by itself exactly a first state.
        """
        _check_share(spread)
        noise = self.levels[0] * self._noise(key.at(0), SITE_NEAR)
        x = math.sqrt(1 - spread**2) * state.x + spread * noise
        return EventState(x, state.denoise, State(x), 0, self.levels[0])

    def back(self, state: EventState, to: int, key: Key) -> EventState:
        """Add noise of variance s'^2 - s^2; the solver begins anew there."""
        check_back(state.step, to)
        level = self.levels[to]
        spread = math.sqrt(level**2 - state.level**2)
        x = state.x + spread * self._noise(key.at(to), SITE_BACK)
        return EventState(x, state.denoise, State(x), to, level, to)

    @cached_property
    def _above(self) -> Levels:
        return self.levels[:-1] if self.levels[-1] == 0 else self.levels

    def _noise(self, key: Key, site: int) -> Event:
        flat = rng.normal(key, site, math.prod(self.shape))
        return flat.view(len(flat), *self.shape).to(self.dtype)


@dataclass
class _Asked:
    """A denoiser that answers what was asked before from memory."""

    watch: Watched
    state: EventState

    def __call__(self, x: Event, level: Level) -> Event:
        known = self.state.answer
        if known is not None and self._same(x, level):
            return known.mean
        return self.watch(x, level)

    def moments(self, x: Event, level: Level) -> tuple[Event, Event]:
        known = self.state.answer
        if known is not None and known.variance is not None and self._same(x, level):
            return known.mean, known.variance
        return self.watch.moments(x, level)

    def _same(self, x: Event, level: Level) -> bool:
        return x is self.state.solver.x and bool((level == self.state.level).all())


def check_back(step: int, to: int) -> None:
    """Raise ValueError unless states before ``step`` can be noised back to before ``to``."""
    if not 0 <= to <= step:
        raise ValueError(f"states after {step} steps can go back to 0 to {step}, not to {to}.")


def _cost(x: Event, calls: int) -> Tensor:
    return torch.full((len(x),), calls, device=x.device)


def _check_share(spread: float) -> None:
    if not 0 <= spread <= 1:
        raise ValueError(f"spread must be in [0, 1], got {spread}.")
