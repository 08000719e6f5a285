"""Which solver is best for one model and one number of evaluations? One whose numbers are fitted.

Every explicit multistep method on n intervals is one table: the levels that are visited, and how
the answers so far are weighed in each step. With tau the standard deviation of the noise that a
state holds, a step is

    y' = (tau' / tau) y + (1 - tau' / tau) sum_j W_j D_j,   sum_j W_j = 1,

over all answers D_j given so far. Weights over earlier states or over noises (y_j - D_j) / s_j
span nothing more: states are such sums themselves. A mean that does not move is solved exactly,
whatever the weights. Differs from S4S (Frankel et al., 2025, arXiv:2502.17423) and the solver
search of Wang et al. (2025, arXiv:2505.21114) in the weights, which are free over the whole
history, and in tau, which inside a run may differ from the level that the model is told: of
Gaussian data with variance c the exact state at a level s holds sqrt(c + s^2) of noise.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from unison.decode.continuous.api import Levels, State, asked, checked
from unison.decode.continuous.exponential import weighted
from unison.decode.continuous.fitted.document import document
from unison.decode.continuous.fitted.grid import LearnedGrid
from unison.files import write_json
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law

FORMAT, VERSION = "unison learned solver", 1
_SLACK = 1e-6  # relative: levels that went through a file or a float32 are the same


@dataclass(frozen=True)
class LearnedSolver:
    """A table of weights on the levels it was fitted for.

    Attributes:
        grid: The levels, falling, the last above 0.
        scales: The noise in the state at each level; at both ends that is the level.
        weights: For each interval, the weight of each answer so far, oldest first; they sum to 1.
    """

    law: ClassVar[Law] = Law.GREEDY

    grid: Levels
    scales: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        checked(self.grid)
        _check_scales(self.grid, self.scales)
        _check_weights(len(self.grid) - 1, self.weights)

    def evaluations(self, intervals: int) -> int:
        """One an interval.

        Raises:
            ValueError: It was fitted for another number of intervals.
        """
        if intervals != len(self.weights):
            raise ValueError(
                f"this solver was fitted for {len(self.weights)} intervals, not {intervals}; use "
                "its own grid, or fit one for that number."
            )
        return intervals

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, and weigh all answers so far.

        Raises:
            ValueError: These are not the levels that it was fitted for.
        """
        _check_same(levels, self.grid)
        place = key.step
        history = (asked(denoise, state.x, levels[place]), *state.history)
        ratio = self.scales[place + 1] / self.scales[place]
        newest_first = [(1 - ratio) * weight for weight in reversed(self.weights[place])]
        means = [past.mean for past in history[: len(newest_first)]]
        return State(weighted((ratio, *newest_first), (state.x, *means)), history)

    def as_grid(self) -> LearnedGrid:
        """Return its levels as a grid that other solvers can take, also over other spans."""
        return LearnedGrid.through(self.grid)

    def save(self, path: Path) -> None:
        """Write a JSON file, atomically; ``load`` returns an equal solver.

        Raises:
            NotWrittenError: The disk is full or the folder cannot be written.
        """
        table = {"levels": self.grid, "scales": self.scales, "weights": self.weights}
        write_json(path, {"format": FORMAT, "version": VERSION, **table})


def load(path: Path) -> LearnedSolver:
    """Read what ``save`` wrote.

    Raises:
        ValueError: The file is something else, of another version, or its numbers make no solver.
    """
    content = document(path, FORMAT, VERSION)
    try:
        levels = tuple(float(level) for level in content["levels"])
        scales = tuple(float(scale) for scale in content["scales"])
        weights = tuple(tuple(float(one) for one in row) for row in content["weights"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} lacks the numbers of a solver ({error!r}); it was cut or edited: fit again."
        ) from error
    return LearnedSolver(levels, scales, weights)


def _check_scales(levels: Levels, scales: tuple[float, ...]) -> None:
    if levels[-1] == 0:
        raise ValueError("a learned solver ends above 0; the driver takes the step to 0.")
    if len(scales) != len(levels):
        raise ValueError(f"{len(levels)} levels need as many scales, got {len(scales)}.")
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"scales must be finite and above 0, got {scales}.")
    _check_same((scales[0], scales[-1]), (levels[0], levels[-1]))


def _check_weights(intervals: int, weights: tuple[tuple[float, ...], ...]) -> None:
    if len(weights) != intervals:
        raise ValueError(f"{intervals} intervals need as many rows of weights, got {len(weights)}.")
    for place, row in enumerate(weights):
        if not 1 <= len(row) <= place + 1:
            raise ValueError(
                f"interval {place} has {place + 1} answers to weigh, its row has {len(row)}."
            )
        if not abs(math.fsum(row) - 1) < 1e-9 * max(1, math.fsum(map(abs, row))):
            raise ValueError(f"weights sum to 1; those of interval {place} to {math.fsum(row)}.")


def _check_same(levels: Levels, fitted: Levels) -> None:
    if len(levels) == len(fitted) and all(
        abs(one - other) <= _SLACK * other for one, other in zip(levels, fitted, strict=True)
    ):
        return
    raise ValueError(
        f"a learned solver knows the {len(fitted)} levels it was fitted for, from {fitted[0]:.6g} "
        f"to {fitted[-1]:.6g}; it was given {len(levels)} from {levels[0]:.6g} to "
        f"{levels[-1]:.6g}. Pass its field `grid`."
    )
