"""What if a corrected event is shown the evaluation it would have had? DC-Solver.

Zhao et al. (2024, arXiv:2409.03755): after a correction the stored answer belongs to the predicted
event, not to the corrected one. It is replaced by the stored answers interpolated at a level a
little aside, u' = r u_i + (1 - r) u_{i-1}, with a ratio r for each step that is searched on a few
trajectories (``dc_search``) and predicted for other settings (``dc_regression``).
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from unison.decode.continuous.allowed import check_range
from unison.decode.continuous.api import Levels, Past, State, asked
from unison.decode.continuous.coordinates import Axis, LogLevel
from unison.decode.continuous.exponential import Basis
from unison.decode.continuous.unipc import UniPC
from unison.prob.rng import Key
from unison.types import EventDenoiser, Law


@dataclass(frozen=True)
class DCSolver:
    """UniPC with compensated answers; ratios of 1 leave it as it is.

    Attributes:
        solver: What is compensated.
        ratios: Of each step; those not named are 1, and a step with less than ``answers`` behind
            it is never compensated.
        answers: How many stored answers are interpolated; 2 to 5.
        coordinate: In what levels are moved and answers interpolated; the paper's is time.
    """

    law: ClassVar[Law] = Law.GREEDY
    solver: UniPC = field(default_factory=UniPC)
    ratios: tuple[float, ...] = ()
    answers: int = 3
    coordinate: Axis = field(default_factory=LogLevel)

    def __post_init__(self) -> None:
        check_range("answers", self.answers, 2, 5)

    def evaluations(self, intervals: int) -> int:
        """One an interval."""
        return self.solver.evaluations(intervals)

    def step(self, levels: Levels, denoise: EventDenoiser, state: State, key: Key) -> State:
        """Evaluate, correct the step that led here, compensate, predict the next one."""
        ratio = self.ratios[key.step] if key.step < len(self.ratios) else 1.0
        return self.taken(levels, denoise, state, key.step, ratio)

    def taken(
        self,
        levels: Levels,
        denoise: EventDenoiser,
        state: State,
        step: int,
        ratio: float | Tensor,
    ) -> State:
        """Take a step with that ratio, which may be a tensor that a search differentiates."""
        past = (asked(denoise, state.x, levels[step]), *state.history)
        x = self.solver.corrected(levels, step, state, past)
        if self.free(step) and (isinstance(ratio, Tensor) or ratio != 1):
            past = (self._compensated(past[: self.answers], ratio), *past[1:])
        after = self.solver.predicted(levels, step, x, past)
        return State(after, past[: max(self.solver.order, self.answers - 1)], x)

    def free(self, step: int) -> bool:
        """Say whether a ratio acts at this step."""
        return step >= self.answers - 1

    def _compensated(self, past: tuple[Past, ...], ratio: float | Tensor) -> Past:
        nodes = [self.coordinate(one.level) for one in past]
        where = ratio * nodes[0] + (1 - ratio) * nodes[1]
        newest, mean = past[0], 0.0
        for j, one in enumerate(past):
            share = 1.0
            for k, other in enumerate(nodes):
                share = share * ((where - other) / (nodes[j] - other) if k != j else 1.0)
            mean = mean + share * _shown(one, self.solver.basis)
        if self.solver.basis == "noise":
            mean = newest.x - newest.level * mean
        return newest._replace(mean=mean)


def _shown(one: Past, basis: Basis) -> Tensor:
    return one.mean if basis == "data" else one.noise
