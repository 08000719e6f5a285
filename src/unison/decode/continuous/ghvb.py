"""How do few steps stay stable? Momentum on the noise that the belief shows.

Wizadwongsa et al. (2024, arXiv:2307.11118): with dy/ds = e, the velocity v follows e as an
exponential average, v_i = (1 - beta) v_{i-1} + beta e_i, and a step combines velocities. A smaller
beta enlarges the region of stability; beta = 1 is Adams-Bashforth on e.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from unison.decode.continuous.allowed import check_choice, check_order
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.coordinates import Axis, LogLevel
from unison.decode.continuous.exponential import (
    Basis,
    Coordinate,
    Final,
    Rule,
    advanced,
    order_at,
    staged,
    stages_at,
    weighted,
    weights_of,
)
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

_ADAMS = (1.0, 1 / 2, 5 / 12, 3 / 8, 251 / 720)  # of backward differences, for equal steps


@dataclass(frozen=True)
class GHVB:
    """The generalised heavy-ball rule.

    Differs: its published coefficients are made for equal steps in s. By default the weights of
    the velocities are those with which the step is exact for every noise that is a polynomial of
    degree below ceil(order), on the grid at hand and from the first velocity on, so that a
    fractional order q has the error of order ceil(q) on any grid.

    Attributes:
        order: p - 1 + beta, above 0 and at most 5: 2.5 is three velocities with beta = 0.5, and
            3.0 is Adams-Bashforth.
        weights: For the actual steps, or as published for equal ones in s.
        basis: What the velocity follows; ``published`` weights are for the noise.
        coordinate: In what it is a polynomial; ``actual`` weights alone read it.
        final: ``lower`` lets the number of velocities fall to 1 at the end.
        warm: Cross the first intervals by single steps, which cost more evaluations; without
            them the first step limits the global order to 2.
    """

    law: ClassVar[Law] = Law.GREEDY
    order: float = 2.5
    weights: Literal["actual", "published"] = "actual"
    basis: Basis = "noise"
    coordinate: Axis = field(default_factory=LogLevel)
    final: Final = "lower"
    warm: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.order <= len(_ADAMS):
            raise ValueError(
                f"order must be above 0 and at most {len(_ADAMS)}, got {self.order}; 2.5 is usual."
            )
        check_choice("weights", self.weights, ("actual", "published"))
        check_choice("basis", self.basis, ("data", "noise"))
        check_choice("final", self.final, ("lower", "full"))
        if self.weights == "published" and self.basis != "noise":
            raise ValueError("the published weights are for the noise; take weights='actual'.")

    @property
    def beta(self) -> float:
        """How fast the velocity follows the noise."""
        return self.order - math.ceil(self.order) + 1

    def evaluations(self, intervals: int) -> int:
        """One an interval, and those of a warm start."""
        return sum(stages_at(self._rule(), step, intervals) for step in range(intervals))

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, let the velocity follow, and combine the velocities that are kept."""
        rule, intervals = self._rule(), len(levels) - 1
        level, after = levels[key.step : key.step + 2]
        here = asked(denoise, state.x, level)
        shown = here.noise if self.basis == "noise" else here.mean
        old = state.memory or ()
        velocity = shown.lerp(old[0], 1 - self.beta) if old else shown
        velocities = (velocity, *old)[: rule.order]
        stages = stages_at(rule, key.step, intervals)
        if stages > 1:
            x = staged(denoise, here, after, stages, self.basis, self.coordinate)
            return State(x, (), velocities)
        order = order_at(rule.order, key.step, intervals, self.final)
        weights = self._weights(levels[: key.step + 2], order)
        kept = 1.0 if self.basis == "noise" else after / level
        return State(weighted((kept, *weights), (state.x, *velocities[:order])), (), velocities)

    def _rule(self) -> Rule:
        order = math.ceil(self.order)
        return Rule(order, self.basis, self.coordinate, self.final, self.warm)

    def _weights(self, levels: Levels, order: int) -> tuple[float, ...]:
        if self.weights == "published":
            width = levels[-1] - levels[-2]
            return tuple(width * one for one in published(order, self.beta))
        return fitted(levels, order, self.beta, self.basis, self.coordinate)


@dataclass(frozen=True)
class HeavyBall:
    """Polyak's and Nesterov's momentum on the increments of Adams-Bashforth: order 1.

    Attributes:
        order: Of the increments that are averaged.
        beta: How fast the average follows them; 1 leaves them as they are.
        nesterov: Whether a step looks ahead: it moves along the new increment and the new
            average, mixed once more.
    """

    law: ClassVar[Law] = Law.GREEDY
    order: int = 2
    beta: float = 0.8
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_order(self.order, 4)
        if not 0 < self.beta <= 1:
            raise ValueError(f"beta must be above 0 and at most 1, got {self.beta}.")

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, take the slope of the multistep rule, and move along its average."""
        level, after = levels[key.step : key.step + 2]
        past = (asked(denoise, state.x, level), *state.history)[: self.order]
        slope = _slope(state.x, (level, after), past[: order_at(self.order, *_place(levels, key))])
        velocity = slope if state.memory is None else slope.lerp(state.memory, 1 - self.beta)
        along = slope.lerp(velocity, 1 - self.beta) if self.nesterov else velocity
        x = state.x.add(along, alpha=after - level)
        return State(x, past[: self.order - 1], velocity)


def published(order: int, beta: float) -> tuple[float, ...]:
    """Return the published weights of velocities, newest first, for a step of width 1 in s.

    With the backward difference N, e = (1 + N (1 - beta) / beta) v; the weights are the terms
    below N^order of that times the series of Adams and Bashforth.
    """
    ratio = (1 - beta) / beta
    terms = [_ADAMS[k] + ratio * (_ADAMS[k - 1] if k else 0.0) for k in range(order)]
    return tuple(
        sum((-1) ** j * math.comb(k, j) * terms[k] for k in range(j, order)) for j in range(order)
    )


@lru_cache(maxsize=4096)
def fitted(
    levels: Levels,
    order: int,
    beta: float,
    basis: Basis = "noise",
    coordinate: Coordinate = math.log,
) -> tuple[float, ...]:
    """Return weights of velocities, newest first, that make the last step of ``levels`` exact.

    Exact for a belief that is a polynomial of degree below ``order`` in the coordinate: what the
    filter makes of each monomial on these levels is known, and as many equations determine the
    weights.

    Args:
        levels: All levels so far, and the one to go to.
        order: How many velocities are combined; at most as many as there are steps.
        beta: Of the filter.
        basis: What the velocities follow.
        coordinate: In what it is a polynomial.
    """
    seen, ends = levels[:-1], (levels[-2], levels[-1])
    where = np.array([coordinate(level) for level in seen])
    unit = coordinate(ends[1]) - coordinate(ends[0])
    monomials = ((where - where[-1]) / unit)[:, None] ** np.arange(order)
    filtered = np.empty_like(monomials)
    filtered[0] = monomials[0]
    for i in range(1, len(seen)):
        filtered[i] = (1 - beta) * filtered[i - 1] + beta * monomials[i]
    newest = tuple(reversed(seen[-order:]))
    moments = np.array(weights_of(ends, newest, basis, coordinate)) @ monomials[::-1][:order]
    return tuple(np.linalg.solve(filtered[::-1][:order].T, moments).tolist())


def _slope(x: Event, ends: tuple[float, float], past: tuple[Past, ...]) -> Event:
    return (advanced(x, ends, past, "noise") - x) / (ends[1] - ends[0])


def _place(levels: Levels, key: Key) -> tuple[int, int]:
    return key.step, len(levels) - 1
