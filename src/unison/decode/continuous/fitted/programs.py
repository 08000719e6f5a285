"""What if each step of a solver chooses for itself? Programs: a list of choices, and their solver.

The unified sampling framework (Liu et al., 2024, arXiv:2312.07243): a step decides from which
level it starts, what it expands (means or noises), to which order, from how few evaluations each
derivative is estimated, how far the derivatives are trusted, and whether the step is done again
once the next evaluation is there, which costs none (the corrector of UniPC, arXiv:2302.04867).
Differs: derivatives are those of interpolating polynomials in log s, so that a program with full
estimation and scale 1 is the multistep rule of its order.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from unison.decode.continuous.api import Levels, Past, State, asked, checked
from unison.decode.continuous.exponential import Basis, advanced, order_at, weighted
from unison.decode.continuous.fitted.document import document
from unison.decode.continuous.grids import Grid, Span
from unison.files import to_json, write_json
from unison.prob.rng import Key
from unison.types import Event, EventDenoiser, Law

FORMAT, VERSION = "unison solver program", 1
BASES: tuple[Basis, ...] = ("data", "noise")
HIGHEST = 4  # order: more derivatives amplify rounding, and no search chose them

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


class Choice(NamedTuple):
    """What one step decides.

    Attributes:
        level: Where it starts.
        basis: What it expands.
        order: Terms of the expansion; 1 holds the evaluation over the step.
        estimation: Derivative k is taken from ``estimation`` + k evaluations, ``order`` at most.
        corrector: Whether the step is done again with the evaluation at its end.
        scale: Factor of all derivatives.
    """

    level: float
    basis: Basis = "data"
    order: int = 1
    estimation: int = 1
    corrector: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Program:
    """The choices of all steps, and where the last one ends.

    Attributes:
        choices: In the order of the run; levels fall.
        low: The last level, above 0.
    """

    choices: tuple[Choice, ...]
    low: float

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("a program needs at least one choice.")
        checked(self.levels)
        if self.low == 0:
            raise ValueError("a program ends above 0; the driver takes the step to 0.")
        for place, choice in enumerate(self.choices):
            _check_choice(place, choice)

    @property
    def levels(self) -> Levels:
        """The grid that the program runs on."""
        return (*(choice.level for choice in self.choices), self.low)

    def to_json(self) -> dict[str, Any]:
        """Return the document that ``read`` takes."""
        steps = [choice._asdict() for choice in self.choices]
        return {"format": FORMAT, "version": VERSION, "low": self.low, "steps": steps}

    def fingerprint(self) -> str:
        """Return a name that two programs share only if they are equal."""
        return hashlib.sha256(to_json(self.to_json()).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write a JSON file, atomically; ``load_program`` returns an equal one."""
        write_json(path, self.to_json())


def load_program(path: Path) -> Program:
    """Read what ``Program.save`` wrote.

    Raises:
        ValueError: The file is something else, of another version, or no program.
    """
    return read(document(path, FORMAT, VERSION))


def read(content: dict[str, Any]) -> Program:
    """Return the program of a document.

    Raises:
        ValueError: A choice has an unknown or a missing field, or is impossible.
    """
    try:
        steps = [Choice(**step) for step in content["steps"]]
        choices = tuple(
            one._replace(level=float(one.level), scale=float(one.scale)) for one in steps
        )
        return Program(choices, float(content["low"]))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"this is no solver program: {error}. A step has the fields "
            f"{', '.join(Choice._fields)}."
        ) from error


@dataclass(frozen=True)
class Programmed:
    """The solver that runs a program.

    Attributes:
        program: What to do.
    """

    law: ClassVar[Law] = Law.GREEDY

    program: Program

    def evaluations(self, intervals: int) -> int:
        """One an interval.

        Raises:
            ValueError: The program has another number of steps.
        """
        if intervals != len(self.program.choices):
            raise ValueError(
                f"this program has {len(self.program.choices)} steps, the grid {intervals}."
            )
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, do the last step again if it asked for that, and take the next.

        Raises:
            ValueError: These are not the levels of the program.
        """
        if levels != self.program.levels:
            raise ValueError(
                f"a program brings its own levels; it was given {len(levels)} others. Pass its "
                "field `levels`."
            )
        place, choices = key.step, self.program.choices
        now = asked(denoise, state.x, levels[place])
        if place > 0 and choices[place - 1].corrector:
            before = choices[place - 1]
            # The evaluation stays as it was made; only the events move.
            ends = (levels[place - 1], levels[place])
            past = (now, *state.history)[: before.order + 1]
            now = now._replace(x=advanced(state.history[0].x, ends, past, before.basis))
        history = (now, *state.history)[:HIGHEST]
        return State(expanded(levels[place : place + 2], choices[place], history), history)


def expanded(ends: Levels, choice: Choice, past: Sequence[Past]) -> Event:
    """Return the events at ``ends[1]`` by the choice's expansion around ``past[0]``."""
    used = past[: choice.order]
    weights = weights_of(
        (ends[0], ends[1]),
        tuple(one.level for one in used),
        (choice.basis, choice.estimation, choice.scale),
    )
    if choice.basis == "data":
        return weighted((ends[1] / ends[0], *weights), (past[0].x, *(one.mean for one in used)))
    return weighted((1.0, *weights), (past[0].x, *(one.noise for one in used)))


@lru_cache(maxsize=8192)
def weights_of(
    ends: tuple[float, float], levels: tuple[float, ...], how: tuple[Basis, int, float]
) -> tuple[float, ...]:
    """Return the weight of each evaluation: a sum over derivatives of moment times estimate."""
    basis, estimation, scale = how
    width = math.log(ends[1] / ends[0])
    where = width / 2 * (1 + _NODES)
    kernel = -np.exp(width - where) if basis == "data" else ends[0] * np.exp(where)
    measure = width / 2 * _WEIGHTS * kernel
    nodes = [math.log(level / ends[0]) for level in levels]
    total = np.zeros(len(nodes))
    for k in range(len(nodes)):
        points = min(len(nodes), k + estimation)
        # Row k of the inverse Vandermonde matrix: coefficient k of the polynomial through them.
        inverse = np.linalg.inv(np.vander(nodes[:points], increasing=True))
        moment = float(measure @ where**k) * (scale if k else 1.0)
        total[:points] += moment * inverse[k]
    return tuple(map(float, total))


def plain(
    grid: Grid, span: Span, intervals: int, order: int, basis: Basis, corrector: bool = False
) -> Program:
    """Return a multistep rule on a grid as a program: what a search begins with."""
    levels = grid.levels(span, intervals)
    orders = [order_at(order, place, intervals) for place in range(intervals)]
    return Program(
        tuple(
            Choice(level, basis, p, p, corrector and place < intervals - 1)
            for place, (level, p) in enumerate(zip(levels[:-1], orders, strict=True))
        ),
        levels[-1],
    )


def _check_choice(place: int, choice: Choice) -> None:
    if choice.basis not in BASES:
        raise ValueError(f"step {place}: basis must be one of {BASES}, got {choice.basis!r}.")
    most = min(HIGHEST, place + 1)
    if not 1 <= choice.order <= most:
        raise ValueError(
            f"step {place}: order must be from 1 to {most}, the evaluations there are by then "
            f"({HIGHEST} at most); got {choice.order}."
        )
    if not 1 <= choice.estimation <= choice.order:
        raise ValueError(
            f"step {place}: estimation must be from 1 to the order {choice.order}, got "
            f"{choice.estimation}."
        )
    if not math.isfinite(choice.scale):
        raise ValueError(f"step {place}: scale must be finite, got {choice.scale}.")
