"""Which element is worth measuring next? Active diffusion subsampling.

Particles of one reverse diffusion, drawn to what was measured so far, differ where it leaves the
event open; there the next measurement is made, at levels spread over the run (Nolan et al., 2025,
arXiv:2406.14388). Their criterion sums exp(+d) over pairs; with few particles it saturates, and so
does the textbook's pairwise bound on the entropy of a mixture. The variance of the particles does
not: it is the default, and for a Gaussian posterior it is the greedy choice of most information.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode.continuous.api import Solver, State, Watched, asked, checked
from unison.decode.continuous.ddim import DDIM
from unison.decode.continuous.guidance.dps import DPS
from unison.decode.continuous.guidance.measurement import Measurement
from unison.decode.continuous.guidance.operators import Masked
from unison.decode.continuous.guidance.parts import kept
from unison.decode.continuous.guidance.pigdm import PiGDM
from unison.prob.rng import Key
from unison.search.posterior.particles import normals, streams
from unison.types import Event, EventDenoiser, Law

SITE_BEGIN = 0x7FFFFF25

Policy = Literal["variance", "pairwise", "spread"]
Acquire = Callable[[Bool[Tensor, "B ..."]], Tensor]  # which elements are asked for, to events


class Acquired(NamedTuple):
    """What was found, and by which measurements.

    Attributes:
        particles: Events that agree with what was measured.
        mask: Which elements were measured.
        order: Which lines were measured, first to last.
        nfe: Denoiser evaluations per particle.
    """

    particles: Float[Tensor, "B N *E"]
    mask: Bool[Tensor, "B *E"]
    order: Int[Tensor, "B T"]
    nfe: int


def worth(
    policy: Policy, thought: Float[Tensor, "B N D"], lines: Int[Tensor, " D"], noise: float
) -> Float[Tensor, "B L"]:
    """Return how much is expected of measuring each line, at least 0 and up to a constant factor.

    Args:
        policy: ``variance``: the information of a Gaussian, sum of log(1 + variance / noise^2) / 2
            over the line's elements. ``pairwise``: -mean_i log mean_j exp(-d_ij), with d the
            particles' squared distance over 2 noise^2, a bound on the entropy of a mixture
            (Kolchinsky and Tracey, 2017, arXiv:1706.02419). ``spread``: log mean_ij exp(+d_ij).
        thought: What each particle expects of each element.
        lines: To which line each element belongs, from 0.
        noise: Standard deviation of a measurement's noise.
    """
    count = int(lines.max()) + 1
    rows, particles, _ = thought.shape
    thought = thought.double()
    if policy == "variance":
        gained = torch.log1p(thought.var(1) / noise**2) / 2
        return torch.zeros(rows, count, dtype=gained.dtype).to(gained).index_add(1, lines, gained)
    pairs = (thought[:, :, None] - thought[:, None]).square() / (2 * noise**2)
    apart = pairs.new_zeros(rows, particles, particles, count).index_add(3, lines, pairs)
    if policy == "spread":
        return apart.flatten(1, 2).logsumexp(1) - 2 * torch.tensor(float(particles)).log()
    likely = (-apart).logsumexp(2) - torch.tensor(float(particles)).log()
    return -likely.mean(1)


def chosen(
    gains: Float[Tensor, "B L"], taken: Bool[Tensor, "B L"], count: int, reach: float
) -> Int[Tensor, "B C"]:
    """Return the next lines to be measured together, each the best that is left.

    After each choice the neighbours' worth is multiplied by 1 - exp(-(distance / reach)^2 / 2):
    what two neighbours tell is partly the same.

    Args:
        gains: At least 0.
        taken: Lines that were measured before.
        count: How many are chosen; at least so many must be left.
        reach: 0 for no discount.
    """
    place = torch.arange(gains.shape[1], device=gains.device)
    picks = []
    for _ in range(count):
        pick = gains.masked_fill(taken, -torch.inf).argmax(1)
        picks.append(pick)
        taken = taken | (place == pick[:, None])
        if reach > 0:
            distance = (place - pick[:, None]) / reach
            gains = gains * -torch.expm1(-distance.square() / 2)
    return torch.stack(picks, 1)


@dataclass(frozen=True)
class Active:
    """Measures a budget of lines while it samples.

    Attributes:
        budget: How many lines of each row may be measured.
        noise: Standard deviation of each measured number.
        batch: How many are measured at a time.
        particles: For each row.
        policy: How lines are rated (``worth``).
        reach: Width of the discount among lines measured together, in lines.
        between: The part of the run, from 0 to 1 of its steps, over which measurements spread.
        guide: ``pigdm`` as it stands, ``tweedie`` for PiGDM with the denoiser's covariance, exact
            for Gaussians, or ``dps``.
        solver: Who takes the steps.
    """

    budget: int
    noise: float
    batch: int = 1
    particles: int = 16
    policy: Policy = "variance"
    reach: float = 1.0
    between: tuple[float, float] = (0.2, 0.8)
    guide: Literal["pigdm", "tweedie", "dps"] = "pigdm"
    solver: Solver = field(default_factory=DDIM)
    law: ClassVar[Law] = Law.BIASED

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.budget:
            raise ValueError(
                f"a batch is from 1 to the budget of {self.budget} lines, got {self.batch}."
            )
        if self.particles < 2:
            raise ValueError(f"disagreement needs at least two particles, got {self.particles}.")
        if not self.noise > 0:
            raise ValueError(f"the noise of measurements must be above 0, got {self.noise}.")
        if not 0 <= self.between[0] <= self.between[1] <= 1:
            raise ValueError(f"between must be two rising shares of the run, got {self.between}.")

    def sample(
        self,
        denoise: EventDenoiser,
        acquire: Acquire,
        lines: Int[Tensor, "*E"],
        levels: Sequence[float],
        key: Key,
    ) -> Acquired:
        """Return events that agree with the measurements that were made of each row.

        Args:
            denoise: The model.
            acquire: Makes the measurements: given which elements are asked for, events [B, *E]
                that hold them. Called once for each batch.
            lines: To which line each element belongs: numbers from 0, pixels or columns or any
                groups that are measured together.
            levels: Decreasing; 0 last ends with the denoiser's answer.
            key: One random stream for each row.

        Raises:
            ValueError: The budget exceeds the lines, or what was acquired is no such events.
        """
        grid = checked(levels, denoise)
        above = grid[:-1] if grid[-1] == 0 else grid
        rows, shape = len(key.seed), tuple(lines.shape)
        plan = self._plan(len(above) - 1, int(lines.max()) + 1)
        each = streams(key, self.particles)
        own = torch.arange(rows, device=key.seed.device).repeat_interleave(self.particles)
        watch = Watched(kept(denoise, own))
        seen = torch.zeros(rows, *shape, device=key.seed.device)
        mask = torch.zeros(rows, *shape, dtype=torch.bool, device=key.seed.device)
        order = torch.zeros(rows, 0, dtype=torch.long, device=key.seed.device)
        state = State(above[0] * normals(each, SITE_BEGIN, seen[own]))
        for step in range(len(above)):
            guided = self._guided(watch, seen, mask, own)
            for count in plan.get(step, ()):
                thought = asked(guided, state.x, above[step]).mean.view(rows, self.particles, -1)
                gains = worth(self.policy, thought, lines.flatten(), self.noise)
                taken = torch.zeros_like(gains, dtype=torch.bool).scatter(1, order, True)
                picks = chosen(gains, taken, count, self.reach)
                fresh = (lines == picks.view(*picks.shape, *[1] * len(shape))).any(1)
                seen = torch.where(fresh, _checked(acquire(fresh), seen), seen)
                mask, order = mask | fresh, torch.cat([order, picks], 1)
                guided = self._guided(watch, seen, mask, own)
                state = State(state.x)  # what was answered before knew less
            if step < len(above) - 1:
                state = self.solver.step(above, guided, state, Key(each.seed, step))
        guided = self._guided(watch, seen, mask, own)
        x = asked(guided, state.x, above[-1]).mean if grid[-1] == 0 else state.x
        return Acquired(x.view(rows, self.particles, *shape), mask, order, watch.calls)

    def _plan(self, steps: int, lines: int) -> dict[int, tuple[int, ...]]:
        """Return before which steps how many lines are measured."""
        if self.budget > lines:
            raise ValueError(
                f"a budget of {self.budget} exceeds the {lines} lines there are; lower it."
            )
        times = -(-self.budget // self.batch)
        first, last = (share * steps for share in self.between)
        plan: dict[int, tuple[int, ...]] = {}
        for turn in range(times):
            share = turn / (times - 1) if times > 1 else 0.0
            step = min(round(first + share * (last - first)), steps)
            count = min(self.batch, self.budget - turn * self.batch)
            plan[step] = (*plan.get(step, ()), count)
        return plan

    def _guided(
        self, denoise: EventDenoiser, seen: Event, mask: Tensor, own: Tensor
    ) -> EventDenoiser:
        measured = Measurement(Masked(mask), seen, self.noise).keep(own)
        if self.guide == "dps":
            return DPS(denoise, measured)
        if self.guide == "tweedie":
            return PiGDM(denoise, measured, "tweedie")
        return PiGDM(denoise, measured, iterations=2)


def _checked(given: Tensor, like: Tensor) -> Tensor:
    if given.shape != like.shape:
        raise ValueError(
            f"measurements of events {tuple(like.shape)} were asked for and {tuple(given.shape)} "
            "were given; return events with the elements that were asked for."
        )
    return given.to(like)
