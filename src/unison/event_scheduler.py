"""How does a pipeline of Hugging Face's diffusers run one of our solvers? In its scheduler's place.

    pipe.scheduler = EventScheduler(DPMSolverPlusPlus(), Karras(), pipe.scheduler.config)

Such a pipeline asks its model itself and hands over the answer; a solver asks a denoiser whenever
it likes. As steps are pure, an interval is simply begun again with the answers known so far, and
where the solver asks for one that is not known yet, the pipeline is told to get it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unison.decode.continuous import Grid, Levels, Solver, Span, State
from unison.decode.continuous.budget import intervals_within
from unison.event_checkpoints import Schedule, read_schedule
from unison.event_denoising import over, scales
from unison.prob import rng
from unison.prob.rng import Key
from unison.types import Event, Level

_MOST = 256  # evaluations that a solver may make in one interval


class SchedulerError(ValueError):
    """A scheduler that is asked for what its solver cannot do, or out of turn."""


class Stepped(NamedTuple):
    """What a pipeline reads.

    Attributes:
        prev_sample: The events at the next time step.
        pred_original_sample: The model's present idea of the clean ones.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor


@dataclass(frozen=True)
class _Plan:
    """A run that was laid out.

    Attributes:
        levels: The grid, all above 0.
        asked: The level of every evaluation, the last one for the clean events.
        interval: The interval each belongs to.
    """

    levels: Levels
    asked: tuple[float, ...]
    interval: tuple[int, ...]


@dataclass
class _Progress:
    """Where a run stands.

    Attributes:
        done: Evaluations so far.
        state: The rows at the start of the interval.
        means: Answers of this interval, in the order they were asked for.
        key: The random streams of the rows.
        returned: What the pipeline was given last.
    """

    done: int = 0
    state: State | None = None
    means: tuple[Tensor, ...] = ()
    key: Key | None = None
    returned: Tensor | None = None


class _Unknown(Exception):  # noqa: N818  # no error: it says what the solver waits for
    def __init__(self, x: Event) -> None:
        self.x = x


@dataclass
class EventScheduler:
    """Stands in for a scheduler of diffusers; one evaluation of the model is one of its steps.

    A solver of several evaluations an interval takes as many time steps for it; with n steps asked
    for there are as many intervals as fit, the last evaluation giving the clean events. The
    outcome is that of ``solve`` on the same grid ending in 0. Rows draw from ``seed``, never from
    the pipeline's generator, which makes the start only.

    Attributes:
        solver: The rule.
        grid: Which levels it visits, between those the model was trained on.
        config: The configuration of the scheduler it replaces.
        clip: Bound on the clean events, at every step; ``None`` for none.
        seed: Of the run.
        shape: Of one event, for solvers that carry statistics of that shape.
    """

    solver: Solver
    grid: Grid
    config: Mapping[str, Any]
    clip: float | None = None
    seed: int = 0
    shape: tuple[int, ...] = (1,)
    timesteps: Tensor = field(init=False, default_factory=lambda: torch.zeros(0))
    order: int = field(init=False, default=1)
    init_noise_sigma: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        self.schedule: Schedule = read_schedule(self.config)
        self._plan: _Plan | None = None
        self._progress = _Progress()

    def __len__(self) -> int:
        return int(self.config.get("num_train_timesteps", 1000))

    @property
    def levels(self) -> Levels:
        """The grid of the present run, ending in 0.

        Raises:
            SchedulerError: ``set_timesteps`` was not called.
        """
        return (*self._planned().levels, 0.0)

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Lay out a run of at most so many evaluations, and begin it.

        Raises:
            ValueError: There are too few for one interval, or the solver does not begin by asking
                about the start.
        """
        intervals = intervals_within(self.solver, num_inference_steps, final=1)
        low, high = self.schedule.span
        levels = self.grid.levels(Span(high, low, self.schedule.process), intervals)
        self._plan, self._progress = _planned(self.solver, levels, self.shape), _Progress()
        asked = torch.tensor(self._plan.asked, dtype=torch.float64)
        times = self.schedule.process.time_of(asked) * self.schedule.steps
        self.timesteps = times.float().to(device or "cpu")

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the events as the model sees them: they are so already."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the events at time steps of their own."""
        time = timesteps.double().reshape(-1) / self.schedule.steps
        alpha = self.schedule.process.alpha(time)
        sigma = alpha * self.schedule.process.level(time)
        return over(alpha, original_samples) * original_samples + over(sigma, noise) * noise

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        return_dict: bool = True,
        *,
        generator: Any = None,
    ) -> Stepped | tuple[Tensor]:
        """Take the model's answer to ``sample`` and return what it is to be asked next.

        Args:
            model_output: The answer; channels beyond those of ``sample`` are left out.
            timestep: Where it was asked, one of ``timesteps``, in their order.
            sample: What it was shown.
            eta: 0; how random a run is, is the solver's own.
            use_clipped_model_output: No; see ``clip``.
            return_dict: Return names, not a tuple.
            generator: Not read; see ``seed``.

        Raises:
            SchedulerError: The steps are out of turn, or something is asked for that the solver
                decides itself.
        """
        if eta or use_clipped_model_output:
            raise SchedulerError(
                f"eta={eta} and use_clipped_model_output={use_clipped_model_output} belong to "
                "diffusers' own DDIM; choose a stochastic solver, or clip=1.0, instead."
            )
        level = self._turn(timestep)
        x = sample.float() if sample.dtype in (torch.float16, torch.bfloat16) else sample
        mean = self._mean(model_output[:, : sample.shape[1]].to(x.dtype), x, level)
        following = self._following(mean, x).to(sample.dtype)
        self._progress.returned = following
        if not return_dict:
            return (following,)
        return Stepped(following, mean.to(sample.dtype))

    def _turn(self, timestep: Any) -> float:
        """Return the level whose turn it is."""
        plan, done = self._planned(), self._progress.done
        if done >= len(plan.asked):
            raise SchedulerError("the run is over; call set_timesteps to begin another.")
        due = self.timesteps[done].item()
        if abs(float(timestep) - due) > 1e-3 * max(1.0, due):
            raise SchedulerError(
                f"time step {float(timestep):.6g} is out of turn, {due:.6g} is due: solvers with a "
                "memory take a run from its first step to its last; call set_timesteps to begin."
            )
        return plan.asked[done]

    def _mean(self, answer: Tensor, x: Tensor, level: float) -> Tensor:
        """Return the clean events that an answer speaks of."""
        one = torch.tensor([level], dtype=torch.float64)
        at = scales(self.schedule.prediction, one, process=self.schedule.process)
        mean = (at.skip / at.into).item() * x + at.out.item() * answer
        return mean if self.clip is None else mean.clamp(-self.clip, self.clip)

    def _following(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return what the model is to be shown next, or the clean events in the end."""
        plan, now = self._planned(), self._progress
        if now.key is None:
            now.key = Key(rng.rows(self.seed, 0, len(x)).to(x.device))
        if now.state is None or now.returned is None:
            now.state = State(x / self._alpha(plan.asked[0]))
        elif not now.means:  # what the pipeline made of the events since then counts
            moved = (x - now.returned.to(x.dtype)) / self._alpha(plan.asked[now.done])
            now.state = now.state._replace(x=now.state.x + moved)
        now.means, now.done = (*now.means, mean), now.done + 1
        if now.done == len(plan.asked):
            return mean
        key = Key(now.key.seed, plan.interval[now.done - 1])
        return self._advanced(plan, now.state, key) * self._alpha(plan.asked[now.done])

    def _advanced(self, plan: _Plan, state: State, key: Key) -> Event:
        """Go on until an answer is missing; return what it is missing for."""
        now = self._progress
        for interval in range(key.step, len(plan.levels) - 1):
            try:
                state = self.solver.step(plan.levels, _Known(now.means), state, key.at(interval))
            except _Unknown as missing:
                return missing.x
            now.state, now.means = state, ()
        return state.x

    def _alpha(self, level: float) -> float:
        process = self.schedule.process
        time = process.time_of(torch.tensor(level, dtype=torch.float64))
        return process.alpha(time).item()

    def _planned(self) -> _Plan:
        if self._plan is None:
            raise SchedulerError("call set_timesteps before a run.")
        return self._plan


@dataclass
class _Known:
    """A denoiser of answers that are known already.

    Attributes:
        means: In the order they are asked for.
        asked: Levels asked for so far.
        shown: The events they were asked with.
    """

    means: tuple[Tensor, ...]
    asked: tuple[float, ...] = ()
    shown: tuple[Tensor, ...] = ()

    def __call__(self, x: Event, level: Level) -> Event:
        """Return the next answer."""
        if len(self.asked) == len(self.means):
            raise _Unknown(x)
        mean = self.means[len(self.asked)]
        self.asked, self.shown = (*self.asked, level[0].item()), (*self.shown, x)
        return mean


def _planned(solver: Solver, levels: Levels, shape: tuple[int, ...]) -> _Plan:
    """Find out at which levels the solver asks, with one event of zeros."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    state, seed = State(zero), rng.rows(0, 0, 1)
    asked: list[float] = []
    interval: list[int] = []
    shown: list[Tensor] = []
    for step in range(len(levels) - 1):
        watch = _Known((zero,) * _MOST)
        state = solver.step(levels, watch, state, Key(seed, step))
        asked += watch.asked
        interval += [step] * len(watch.asked)
        shown += watch.shown
    if not asked or asked[0] != levels[0] or shown[0].any():
        raise SchedulerError(
            f"{solver} does not begin by asking about the start, as a pipeline does; choose "
            "another solver."
        )
    return _Plan(levels, (*asked, levels[-1]), (*interval, len(levels) - 1))
