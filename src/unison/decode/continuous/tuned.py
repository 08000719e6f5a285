"""Which few levels and weights suit data nobody has seen? Ours, fitted once to random laws.

For each number of intervals the table holds a ``LearnedSolver`` that errs least in the mean over
random mixtures, guided mixtures and Gaussians (``benchmarks/tune_solver.py`` makes it): nothing of
the model at hand enters but the standard deviation of its data.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from unison.decode.continuous.api import Levels, Solver, State
from unison.decode.continuous.fitted.learned import LearnedSolver
from unison.decode.continuous.grids import Span, TimePower
from unison.decode.continuous.multistep import Multistep
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law

_NEAR = 1e-6  # relative: levels that went through a file or a float32 are the same
_AS_GOOD = 36  # evaluations with which the plain rule reaches the error of the table's last row
_HIGH_ENOUGH = 20.0  # spreads: from there on a model knows little but the mean of its data


@dataclass(frozen=True)
class TunedGrid:
    """The levels of the table, in units of the data's spread, between the ends that are asked."""

    def levels(self, span: Span, intervals: int) -> Levels:
        """Return the table's levels with their ends replaced.

        Raises:
            ValueError: The table has no such number, or the span is too narrow for it.
        """
        row = row_of(intervals)
        inner = tuple(level * span.spread for level in row.grid[1:-1])
        least = _HIGH_ENOUGH * span.spread
        if not _fits(span, row):
            raise ValueError(
                f"the tuned grid of {intervals} intervals goes from {least:.4g} or more to less "
                f"than {inner[-1]:.4g} for data of standard deviation {span.spread:.4g}; asked "
                f"were {span.high:.4g} and {span.low:.4g}. Choose another grid and solver, for "
                "example time:power=2.0 and deis."
            )
        return (span.high, *inner, span.low)


@dataclass(frozen=True)
class Tuned:
    """The solver of the table for as many intervals as the grid has, which must be its own."""

    law: ClassVar[Law] = Law.GREEDY

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and weigh all answers so far.

        Raises:
            ValueError: The levels are not the table's.
        """
        return fitted(levels).step(levels, denoise, state, key)


@lru_cache(maxsize=64)
def fitted(levels: Levels) -> LearnedSolver:
    """Return the table's solver for levels whose ends may differ from its own.

    Raises:
        ValueError: The levels between the ends are not the table's, to a common factor.
    """
    row = row_of(len(levels) - 1)
    spread = levels[1] / row.grid[1]
    pairs = zip(levels[1:-1], row.grid[1:-1], strict=True)
    if any(abs(mine / (spread * other) - 1) > _NEAR for mine, other in pairs):
        raise ValueError(
            "the tuned solver has weights for the levels of the grid 'tuned' alone; choose that "
            "grid, or another solver such as deis."
        )
    noises = (spread * scale for scale in row.scales[1:-1])
    return LearnedSolver(levels, (levels[0], *noises, levels[-1]), row.weights)


def row_of(intervals: int) -> LearnedSolver:
    """Return the table's solver, for data of standard deviation 1.

    Raises:
        ValueError: It has none for that number.
    """
    table = _table()
    if intervals not in table:
        raise ValueError(
            f"the tuned solver is for {', '.join(map(str, sorted(table)))} intervals, not for "
            f"{intervals}; choose one of these, or another solver such as deis."
        )
    return table[intervals]


@lru_cache(maxsize=1)
def _table() -> dict[int, LearnedSolver]:
    text = (Path(__file__).parent / "tuned.json").read_text(encoding="utf-8")
    return {
        int(count): LearnedSolver(
            tuple(row["levels"]),
            tuple(row["scales"]),
            tuple(tuple(line) for line in row["weights"]),
        )
        for count, row in json.loads(text).items()
    }


class Plan(NamedTuple):
    """Who steps, and where."""

    solver: Solver
    levels: Levels


def default(span: Span, intervals: int) -> Plan:
    """Return what suits a model nobody has looked at, for at most that many evaluations.

    The table where it reaches: with its next smaller number of intervals where it lacks this one,
    and with its largest until ``Multistep`` on quadratic time, taken elsewhere, is as good.

    Args:
        span: From where to where.
        intervals: Evaluations that may be made.
    """
    held = [count for count in _table() if count <= intervals <= _AS_GOOD]
    if held and _fits(span, row_of(max(held))):
        return Plan(Tuned(), TunedGrid().levels(span, max(held)))
    return Plan(Multistep(), TimePower(2.0).levels(span, intervals))


def _fits(span: Span, row: LearnedSolver) -> bool:
    return span.high >= _HIGH_ENOUGH * span.spread and span.low < row.grid[-2] * span.spread
