"""How is a solver fitted to a model? By the ends of exactly solved trajectories.

A few hundred starts and where the probability-flow ODE takes them are all that is needed; the
numbers of a ``LearnedSolver`` are then a small nonlinear least squares problem. Events of a few
elements get Gauss-Newton steps with Levenberg-Marquardt damping (Marquardt, 1963,
doi:10.1137/0111030); for larger ones a Jacobian costs too much and Adam (arXiv:1412.6980) descends.
Both move the grid first, then the scales, then all, from several known rules; starts that are held
out pick.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unison.decode.continuous.exponential import Basis
from unison.decode.continuous.fitted.learned import LearnedSolver
from unison.decode.continuous.fitted.rollout import distance, ended, linearised, sensitive
from unison.decode.continuous.fitted.table import Layout, Polynomial
from unison.decode.continuous.grids import CosineSNR, Grid, Knee, Span, TimePower
from unison.exact.mixtures import flow
from unison.types import Event, EventDenoiser, Level


class Rule(NamedTuple):
    """A known solver that a fit begins with.

    Attributes:
        grid: Its levels.
        basis: What it interpolates.
        order: Through how many answers.
        polynomial: In what.
    """

    grid: Grid
    basis: Basis
    order: int
    polynomial: Polynomial


RULES = (
    Rule(TimePower(2.0), "noise", 2, "log"),
    Rule(CosineSNR(), "data", 2, "log"),
    Rule(Knee(4.0), "data", 3, "log"),
)

_STALLED = 1e-3  # a Gauss-Newton step that lowers the squared error by less ends a phase
_TRIALS = 8  # dampings of one step


@dataclass(frozen=True)
class Fitting:
    """How a fit is run.

    Attributes:
        rules: With what it begins, each tried for a while.
        finalists: How many of them are fitted to the end.
        held_out: Share of the starts that is not fitted to but chooses.
        screened: To how many starts all rules are fitted, before the finalists are to all.
        rounds: Gauss-Newton steps of a finalist; a fifth of it in each phase of all rules.
        iterations: Adam steps of a finalist, likewise.
        rate: Of Adam, falling by ``decay`` a step.
        decay: Its factor.
        jacobian: Events with at most so many elements are fitted by Gauss-Newton.
    """

    rules: Sequence[Rule] = RULES
    finalists: int = 1
    held_out: float = 0.25
    screened: int = 256
    rounds: int = 60
    iterations: int = 500
    rate: float = 0.03
    decay: float = 0.995
    jacobian: int = 8

    def __post_init__(self) -> None:
        if not self.rules or not self.finalists >= 1:
            raise ValueError("a fit needs at least one rule to begin with and one finalist.")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, got {self.held_out}.")


class Fitted(NamedTuple):
    """What a fit found; errors are root mean squared distances to the wanted ends.

    Attributes:
        solver: The best on held-out starts.
        error: On the starts it was fitted to.
        held_out: On those that chose it.
        begun: The best rule as it was, on those.
    """

    solver: LearnedSolver
    error: float
    held_out: float
    begun: float


class Task(NamedTuple):
    """What numbers are fitted to: a model, starts and ends, and others that are only looked at."""

    denoise: EventDenoiser
    starts: Event
    ends: Event
    other_starts: Event
    other_ends: Event


class Tried(NamedTuple):
    """Numbers, and how far from the ends they lead: those they are fitted to, and the others."""

    layout: Layout
    numbers: Tensor
    error: float
    held_out: float

    @property
    def worse(self) -> float:
        """What chooses.

        A start near the border of two basins outweighs hundreds: either part of the starts may
        lack the one that shows a solver to be bad.
        """
        return max(self.error, self.held_out)


def reference(
    denoise: EventDenoiser, starts: Event, ends: tuple[float, float], steps: int = 200
) -> Event:
    """Return where the ODE takes the starts from ``ends[0]`` to ``ends[1]``, float64.

    RK4 in log s: 4 evaluations a step, an error that falls with steps^-4. The model is shown
    events of the type of ``starts``.
    """
    shape = starts.shape

    def flat(x: Event, level: Level) -> Event:
        mean = denoise(x.view(shape).to(starts.dtype), level.to(starts.dtype))
        return mean.flatten(1).to(x.dtype)

    with torch.no_grad():
        return flow(flat, starts.flatten(1), *ends, steps).view(shape)


def fit(
    denoise: EventDenoiser,
    starts: Event,
    ends: Tensor,
    span: Span,
    intervals: int,
    how: Fitting = Fitting(),
) -> Fitted:
    """Fit levels, scales and weights. Deterministic: equal arguments, equal solvers.

    Args:
        denoise: The model, differentiable.
        starts: Events at ``span.high``; some hundreds make held-out errors fall with the others.
        ends: Where they belong at ``span.low``, of their shape; ``reference`` says.
        span: Between which levels.
        intervals: Evaluations that the solver will take.
        how: Effort and beginnings.

    Raises:
        ValueError: Starts and ends differ in shape or are too few to hold any out; the model
            cannot be differentiated; or every beginning overflows.
    """
    task = _split(denoise, starts, ends, how.held_out)
    sensitive(denoise, starts, span.high)
    begun = [_begun(task, rule, span, intervals) for rule in how.rules]
    first = [_phases(task, one, how) for one in begun]
    best = sorted(first, key=lambda one: one.worse)[: how.finalists]
    last = min((_settled(task, one, how) for one in best), key=lambda one: one.worse)
    if not last.worse < math.inf:
        raise ValueError(
            "no rule stays finite on these starts; check that they are at the first level and "
            "that the ends hold no NaN."
        )
    least = min(one.held_out for one in begun)
    return Fitted(last.layout.solver(last.numbers), last.error, last.held_out, least)


def _split(denoise: EventDenoiser, starts: Event, ends: Tensor, share: float) -> Task:
    if starts.shape != ends.shape:
        raise ValueError(
            f"starts {tuple(starts.shape)} and ends {tuple(ends.shape)} must have one shape."
        )
    fitted = len(starts) - max(1, round(share * len(starts)))
    if fitted < 1:
        raise ValueError(f"{len(starts)} starts are too few to hold any out.")
    starts, ends = starts.double(), ends.double()
    return Task(denoise, starts[:fitted], ends[:fitted], starts[fitted:], ends[fitted:])


def _begun(task: Task, rule: Rule, span: Span, intervals: int) -> Tried:
    layout = Layout(span.high, span.low, intervals, rule.order, rule.basis, rule.polynomial)
    numbers = layout.numbers(rule.grid.levels(span, intervals))
    return _measured(task, layout, numbers)


def _phases(task: Task, tried: Tried, how: Fitting) -> Tried:
    """Fit the grid, then also the scales, then all, each a little and to some of the starts."""
    some = task._replace(starts=task.starts[: how.screened], ends=task.ends[: how.screened])
    for scales, weights in ((False, False), (True, False), (True, True)):
        tried = _improved(some, tried, tried.layout.free(scales, weights), how, 0.2)[0]
    return tried


def _settled(task: Task, tried: Tried, how: Fitting) -> Tried:
    """Fit all, and return what was best on held-out starts on the way."""
    return _improved(task, tried, tried.layout.free(scales=True, weights=True), how, 1.0)[1]


def _improved(
    task: Task, tried: Tried, free: Tensor, how: Fitting, effort: float
) -> tuple[Tried, Tried]:
    """Return the last numbers of a fit, and those that were best on held-out starts."""
    if task.starts[0].numel() <= how.jacobian:
        flat = Task(_flattened(task), *(part.flatten(1) for part in task[1:]))
        return _gauss_newton(flat, tried, free, max(1, round(effort * how.rounds)))
    return _descended(task, tried, free, how, max(1, round(effort * how.iterations)))


def _flattened(task: Task) -> EventDenoiser:
    shape = task.starts.shape[1:]

    def flat(x: Event, level: Level) -> Event:
        return task.denoise(x.view(-1, *shape), level).flatten(1)

    return flat


def _gauss_newton(task: Task, tried: Tried, free: Tensor, rounds: int) -> tuple[Tried, Tried]:
    """Take damped Gauss-Newton steps, each of which lowers the error."""
    best, damping = tried, 1e-2
    for _ in range(rounds):
        with torch.no_grad():
            y, moved = linearised(task.denoise, tried.layout, tried.numbers, task.starts)
        jacobian = moved[..., free].flatten(0, 1)
        off = (y - task.ends).flatten()
        equations = (jacobian.T @ jacobian, jacobian.T @ off, float(off.square().sum()))
        numbers, cost, damping = _lowered(task, tried, free, equations, damping)
        if not cost < equations[2]:
            break
        tried = _measured(task, tried.layout, numbers)
        best = min(best, tried, key=lambda one: one.worse)
        if cost > (1 - _STALLED) * equations[2]:
            break
    return tried, best


def _lowered(
    task: Task, tried: Tried, free: Tensor, equations: tuple[Tensor, Tensor, float], damping: float
) -> tuple[Tensor, float, float]:
    """Return numbers with a lower error, that error, and the damping to go on with.

    The numbers and the error as they were, where even a small step does not lower it.
    """
    normal, gradient, last = equations
    scale = normal.diagonal().clamp(min=1e-12 * float(normal.diagonal().max()))
    for _ in range(_TRIALS):
        numbers = tried.numbers.clone()
        numbers[free] -= torch.linalg.solve(normal + torch.diag(damping * scale), gradient)
        with torch.no_grad():
            off = ended(task.denoise, tried.layout.table(numbers), task.starts) - task.ends
        cost = float(off.square().sum())
        if cost < last:
            return numbers, cost, max(damping / 5, 1e-9)
        damping *= 4
    return tried.numbers, last, damping


def _descended(
    task: Task, tried: Tried, free: Tensor, how: Fitting, iterations: int
) -> tuple[Tried, Tried]:
    """Take Adam steps on the root mean squared error."""
    best = tried
    numbers = tried.numbers.clone().requires_grad_()
    optimiser = torch.optim.Adam([numbers], lr=how.rate)
    fading = torch.optim.lr_scheduler.ExponentialLR(optimiser, how.decay)
    for _ in range(iterations):
        with torch.enable_grad():
            ends = ended(task.denoise, tried.layout.table(numbers), task.starts)
            (slope,) = torch.autograd.grad(distance(ends, task.ends), numbers)
        numbers.grad = torch.where(free, slope, 0)
        optimiser.step()
        fading.step()
        tried = _measured(task, tried.layout, numbers.detach().clone())
        best = min(best, tried, key=lambda one: one.worse)
    return tried, best


def _measured(task: Task, layout: Layout, numbers: Tensor) -> Tried:
    with torch.no_grad():
        table = layout.table(numbers)
        errors = [
            float(distance(ended(task.denoise, table, starts), ends))
            for starts, ends in (task[1:3], task[3:5])
        ]
    return Tried(layout, numbers, *(one if one < math.inf else math.inf for one in errors))
