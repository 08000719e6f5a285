"""Diversity distillation: the base model decides what, a fast student how.

The first step of a distilled model fixes the composition, and that is where its diversity is lost.
So the base is asked above a level and the student below it (Gandikota and Bau, 2025,
arXiv:2503.10637); a single step of the base is often enough.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from unison.decode.continuous import Levels, Solver, solve
from unison.decode.continuous.ddim import DDIM
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Level

Asked = Callable[[str, int], None]  # who, rows

_SECOND = 0x7FFFFF8D  # the student's streams are others than the base's


@dataclass(frozen=True)
class HandOver:
    """One denoiser made of two: the base above a level, the student from there on.

    Attributes:
        base: Answers above ``at``; bind its guidance before.
        student: Answers at ``at`` and below.
        at: The level.
        on_ask: Told who is asked and about how many rows, for accounts.
    """

    base: EventDenoiser
    student: EventDenoiser
    at: float
    on_ask: Asked | None = None

    def __post_init__(self) -> None:
        _check_at(self.at)

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the answer of whose turn it is.

        Raises:
            ValueError: Some rows are above the level and others below: nobody can answer both.
        """
        above = level > self.at
        first = bool(above.all())
        if not first and bool(above.any()):
            raise ValueError(
                f"rows on both sides of the level {self.at:.6g} were asked about together; ask "
                "about rows of one side at a time."
            )
        if self.on_ask is not None:
            self.on_ask("base" if first else "student", len(x))
        return (self.base if first else self.student)(x, level)


@dataclass(frozen=True)
class HandingOver:
    """A run that changes hands.

    Attributes:
        base_levels: Levels of the base, from the first one to where it hands over, above 0.
        student_levels: Levels of the student below that; the last may be 0.
        base_solver: Who steps first.
        student_solver: Who steps then.
    """

    base_levels: Levels
    student_levels: Levels
    base_solver: Solver = field(default_factory=DDIM)
    student_solver: Solver = field(default_factory=DDIM)

    def __post_init__(self) -> None:
        if len(self.base_levels) < 2 or not self.student_levels:
            raise ValueError(
                "the base needs two levels and the student one below them, got "
                f"{self.base_levels} and {self.student_levels}."
            )
        _check_at(self.base_levels[-1])
        if not self.student_levels[0] < self.base_levels[-1]:
            raise ValueError(
                f"the student must go on below {self.base_levels[-1]:.6g}, where the base hands "
                f"over, got {self.student_levels[0]:.6g}."
            )


class HandedOver(NamedTuple):
    """What was drawn.

    Attributes:
        x: The events at the last level.
        between: The events that were handed over.
        base: Evaluations of the base per row.
        student: Evaluations of the student per row.
    """

    x: Event
    between: Event
    base: int
    student: int


def handed_over(
    run: HandingOver, base: EventDenoiser, student: EventDenoiser, start: Event, key: Key
) -> HandedOver:
    """Take the rows down with the base, and on with the student.

    Args:
        run: Levels and solvers of both.
        base: Who decides what is drawn.
        student: Who draws it.
        start: The rows at the base's first level.
        key: One random stream per row.

    Raises:
        ValueError: The levels are not what a model knows, or its answers not what they should be.
    """
    first = solve(run.base_solver, run.base_levels, base, start, key)
    rest = (run.base_levels[-1], *run.student_levels)
    other = Key(rng.derived(key.seed, _SECOND))
    second = solve(run.student_solver, rest, student, first.x, other)
    return HandedOver(second.x, first.x, first.nfe, second.nfe)


def student_levels(levels: Sequence[float], skipped: int = 1) -> Levels:
    """Return the levels a student keeps when the base does its first steps.

    Args:
        levels: The student's own, the last may be 0.
        skipped: Steps that the base does; it hands over at the student's level of that number.

    Raises:
        ValueError: Nothing would be left.
    """
    if not 1 <= skipped < len(levels) - 1:
        raise ValueError(
            f"of {len(levels) - 1} steps between 1 and {len(levels) - 2} can be the base's, got "
            f"{skipped}."
        )
    return tuple(levels[skipped + 1 :])


class Diversity(NamedTuple):
    """How different events are from each other.

    Attributes:
        distance: Mean distance of two of them.
        entropy: Nats of which kind they are of.
        kinds: Kinds that occur.
    """

    distance: float
    entropy: float
    kinds: int


def diversity(events: Event, kind: Callable[[Event], torch.Tensor]) -> Diversity:
    """Measure how different events are.

    Args:
        events: At least two.
        kind: A whole number for each event: its mode, or a classifier's class.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(events) < 2:
        raise ValueError(f"diversity needs two events, got {len(events)}.")
    apart = torch.pdist(events.flatten(1).double()).mean()
    _, counts = kind(events).unique(return_counts=True)
    shares = counts.double() / counts.sum()
    return Diversity(float(apart), float(torch.special.entr(shares).sum()), len(counts))


def _check_at(level: float) -> None:
    if not level > 0:
        raise ValueError(f"the base must hand over at a level above 0, got {level}.")
