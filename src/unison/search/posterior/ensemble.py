r"""An ensemble that samples p(x_0 | y) without a likelihood that is merely approximate.

Approximation-free posterior sampling with particles (Chen et al., 2025, arXiv:2506.03979),
derived anew for a moving likelihood and a family of proposals. Along falling levels t the
particles follow q_t ~ p_t(x) exp(-mu_t(x)), with mu_t = |y - A(x)|^2 / (2 v_t) and the tempered
variance v_t = noise^2 + temper^2 |A|^2 t^2. With a = grad log p_t = (D - x) / t^2, m = grad mu_t
and tau rising as t falls, proposals

    sde   dx = 2t (a - k m) dtau + sqrt(2t) dW
    ode   dx =  t (a - k m) dtau

need log-weights that grow at the rates (put q into the Fokker-Planck equation, divide by q)

    sde   -d_tau mu - t (2k - 1) (lap mu - |m|^2) - 2 t k a.m
    ode   -d_tau mu + t k (|m|^2 - lap mu) - t (1 + k) a.m

and k = 1/2 makes the Laplacian vanish from the first. Without the term d_tau mu that a moving
likelihood brings, the weights are of another law.

The same law in finite steps: a step's weight is the ratio of the model's Gaussian reverse kernel
to the proposal's, times the ratio of likelihoods after and before (twisted particles, Wu et al.,
2023, arXiv:2306.17775). Then exp(-mu) may be any function, such as the likelihood of the denoised
point, and the evidence has no bias with respect to the discretised model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode.continuous.api import Watched, asked, at, checked
from unison.decode.continuous.guidance.measurement import Measurement
from unison.decode.continuous.guidance.parts import kept
from unison.prob import rng
from unison.prob.rng import Key
from unison.search.posterior.particles import (
    Posterior,
    first,
    normals,
    resampled,
    streams,
    summed_up,
)
from unison.types import Event, EventDenoiser, Law

SITE_MOVE, SITE_SIGN = 0x7FFFFF23, 0x7FFFFF24


class Task(NamedTuple):
    """What is asked of the particles, each with its own rows of it."""

    denoise: Watched
    measured: Measurement
    gain: float  # the operator's largest squared singular value; 1 if it is not linear
    trace: Float[Tensor, " R"] | None  # sum of its squared singular values; None likewise


class View(NamedTuple):
    """What the particles see from where they stand, all with particles first."""

    x: Event
    mean: Event  # the denoiser's answer
    pull: Event  # t^2 times the gradient of mu
    mu: Float[Tensor, " B"]
    rate: Float[Tensor, " B"]  # t times the rate of log-weights: per unit of log t
    mean_slope: Event  # per unit of log t over the step that led here; 0 at first
    pull_slope: Event

    def come(self, before: "View", width: float) -> "View":
        """Return this with its slopes since an earlier view."""
        return self._replace(
            mean_slope=(self.mean - before.mean) / width,
            pull_slope=(self.pull - before.pull) / width,
        )

    def at(self, rows: Int[Tensor, " R"]) -> "View":
        """Return the view of some particles."""
        return View(*(part[rows] for part in self))


@dataclass(frozen=True)
class Ensemble:
    """Weighted particles for each row.

    Attributes:
        particles: For each row.
        steering: k above, how hard the proposal is drawn to what was measured. At 1/2 no
            Laplacian is needed and weights vary least; well above it, and for the ODE anywhere
            above 0, their tails are so heavy that an estimated evidence is not to be trusted.
        proposal: ``sde`` or ``ode``.
        weighting: ``rate`` integrates the rates above by trapezoids in log t; ``kernel`` weighs
            finite steps, for the SDE only.
        likelihood: Of the noisy point, or of the denoised one, which needs ``kernel``
            and gradients through the denoiser.
        order: 2 carries the answers on along their slopes over the last step, as DPM-Solver++
            does; 1 holds them.
        temper: How fast the likelihood widens with the level, per unit of the operator's norm.
        resample: Below this share of effective particles a row is resampled; 0 never.
        variance: Of the data, for where the particles start; their mean counts as 0.
    """

    particles: int = 64
    steering: float = 0.5
    proposal: Literal["sde", "ode"] = "sde"
    weighting: Literal["rate", "kernel"] = "rate"
    likelihood: Literal["point", "denoised"] = "point"
    order: Literal[1, 2] = 2
    temper: float = 1.0
    resample: float = 0.5
    variance: float = 1.0
    law: ClassVar[Law] = Law.EXACT  # in the limit of many particles and fine levels

    def __post_init__(self) -> None:
        if self.particles < 1:
            raise ValueError(f"an ensemble needs at least one particle, got {self.particles}.")
        if not (self.temper >= 0 and self.variance > 0):
            raise ValueError(
                f"temper must be at least 0 and the data's variance above 0, got {self.temper} "
                f"and {self.variance}."
            )
        if not 0 <= self.resample <= 1:
            raise ValueError(f"resample is a share from 0 to 1, got {self.resample}.")
        if self.weighting == "kernel" and self.proposal == "ode":
            raise ValueError("an ODE has no kernel to weigh; choose weighting 'rate'.")
        if self.likelihood == "denoised" and self.weighting == "rate":
            raise ValueError(
                "the likelihood of the denoised point moves in a way no rate is known of; choose "
                "weighting 'kernel'."
            )

    def sample(
        self,
        denoise: EventDenoiser,
        measurement: Measurement,
        levels: Sequence[float],
        shape: tuple[int, ...],
        key: Key,
    ) -> Posterior:
        """Return weighted particles for each row of the key.

        Args:
            denoise: The model; may hold something of each row.
            measurement: What was seen of each row, with noise. Its numbers' type is the
                particles'.
            levels: Decreasing. A last level of 0 ends with the denoiser's answers.
            shape: Of one event.
            key: One random stream for each row.

        Raises:
            ValueError: The measurement does not fit the events or has no noise, the levels are
                no grid or outside what the model knows, or the weights overflow.
        """
        rows = len(key.seed)
        grid = self._checked(denoise, measurement, levels, (rows, shape))
        own = torch.arange(rows, device=key.seed.device).repeat_interleave(self.particles)
        task = _task(Watched(kept(denoise, own)), measurement.keep(own), shape)
        each = streams(key, self.particles)
        above = grid[:-1] if grid[-1] == 0 else grid
        like = measurement.seen.new_empty(len(own), *shape)
        x, weights = self._begun(task, like, above[0], each)
        view = self._view(task, x, above[0], each)
        weights = (-view.mu if weights is None else weights).view(rows, self.particles)
        times = torch.zeros_like(key.seed)
        for step, (high, low) in enumerate(pairwise(above)):
            chosen, weights, poor = resampled(weights, self.resample, Key(key.seed, step))
            times = times + poor
            view = view.at(chosen)
            moving = Key(each.seed, step + 1)
            x, shift = self._moved(view, (high, low), moving)
            after = self._view(task, x, low, moving)
            grown = self._grown(view, after, shift, log(high / low))
            weights = weights + grown.view_as(weights)
            view = after.come(view, log(high / low)) if self.order == 2 else after
        x = view.x
        if grid[-1] == 0:
            x = view.mean
            last = task.measured.misfit(x).double() / (2 * measurement.noise**2)
            weights = weights + (view.mu - last).view_as(weights)
        scale = log(2 * torch.pi * measurement.noise**2) / 2
        lost = measurement.count.to(weights.device) * scale
        return summed_up(x, weights - lost[:, None], task.denoise.calls, times)

    def _checked(
        self,
        denoise: EventDenoiser,
        measurement: Measurement,
        levels: Sequence[float],
        asked_for: tuple[int, tuple[int, ...]],
    ) -> tuple[float, ...]:
        measurement.check(*asked_for)
        if measurement.noise == 0:
            raise ValueError(
                "weights need a likelihood: a measurement without noise has none; give it a small "
                "one, or use `Replaced`."
            )
        return checked(levels, denoise)

    def _tempered(self, task: Task, level: float) -> float:
        """Return the variance of the likelihood at a level."""
        left = level**2
        if self.likelihood == "denoised":
            left *= self.variance / (level**2 + self.variance)
        return task.measured.noise**2 + self.temper**2 * task.gain * left

    def _begun(
        self, task: Task, like: Event, level: float, key: Key
    ) -> tuple[Event, Tensor | None]:
        """Return first particles and the log of their mass, unless that is -mu itself."""
        total = level**2 + self.variance
        if self.likelihood == "point":
            return first(task.measured, like, total, self._tempered(task, level), key)
        return total**0.5 * normals(key, SITE_MOVE, like), None

    def _view(self, task: Task, x: Event, level: float, key: Key) -> View:
        variance = self._tempered(task, level)
        if self.likelihood == "denoised":
            with torch.enable_grad():
                free = x.detach().requires_grad_()
                mean = task.denoise(free, at(level, free))
                mu = task.measured.misfit(mean) / (2 * variance)
                (pull,) = torch.autograd.grad(mu.sum(), free)
            mu = mu.detach().double()
            return _stood(x, mean.detach(), level**2 * pull, mu)
        mean = asked(task.denoise, x, level).mean
        misfit, slope = task.measured.pull(x)
        mu = misfit.double() / (2 * variance)
        view = _stood(x, mean, level**2 / variance * slope, mu)
        if self.weighting == "kernel":
            return view
        return view._replace(rate=self._rate(task, view, level, key))

    def _rate(self, task: Task, view: View, level: float, key: Key) -> Tensor:
        """Return t times the rate at which log-weights grow."""
        variance = self._tempered(task, level)
        still = -2 * view.mu * (1 - task.measured.noise**2 / variance)
        along = _dot(view.mean - view.x, view.pull) / level**2  # t^2 a.m
        k = self.steering
        bend, mixed = (k, 1 + k) if self.proposal == "ode" else (2 * k - 1, 2 * k)
        if bend == 0:
            return still - mixed * along
        curved = level**2 / variance * _laplacian(task, view.x, key)
        return still + bend * (_dot(view.pull, view.pull) / level**2 - curved) - mixed * along

    def _moved(
        self, view: View, ends: tuple[float, float], key: Key
    ) -> tuple[Event, Float[Tensor, " B"]]:
        """Return where the particles go, and log of the model's kernel over the proposal's."""
        high, low = ends
        ratio, half = low / high, log(high / low) / 2
        mean = view.mean + half * view.mean_slope
        steered = mean - self.steering * (view.pull + half * view.pull_slope)
        if self.proposal == "ode":
            return ratio * view.x + (1 - ratio) * steered, torch.zeros_like(view.mu)
        width = low * (1 - ratio**2) ** 0.5
        noise = normals(key, SITE_MOVE, view.x)
        x = ratio**2 * view.x + (1 - ratio**2) * steered + width * noise
        push = (1 - ratio**2) * (steered - mean) / width
        return x, -_dot(push, push) / 2 - _dot(push, noise)

    def _grown(self, before: View, after: View, shift: Tensor, width: float) -> Tensor:
        """Return how much the log-weights grow over a step of that width in log t."""
        if self.weighting == "kernel" or (self.proposal == "ode" and self.steering == 0):
            return shift + before.mu - after.mu  # the plain ODE's rate is -d mu, in one piece
        return width * (before.rate + after.rate) / 2


def _stood(x: Event, mean: Event, pull: Event, mu: Tensor) -> View:
    """Return the view of particles that came from nowhere and gain no weight."""
    still = torch.zeros_like(x)
    return View(x, mean, pull, mu, torch.zeros_like(mu), still, still)


def _dot(left: Event, right: Event) -> Float[Tensor, " B"]:
    return (left * right).flatten(1).sum(1).double()


def _task(denoise: Watched, measured: Measurement, shape: tuple[int, ...]) -> Task:
    if measured.linear is None:
        return Task(denoise, measured, 1.0, None)
    squares = measured.linear.squares(shape)
    return Task(denoise, measured, float(squares.max()), squares.sum(1))


def _laplacian(task: Task, x: Event, key: Key) -> Float[Tensor, " B"]:
    """Return the Laplacian of |y - A(x)|^2 / 2: exactly if A is linear, else by one probe.

    The probe has signs at random (Hutchinson, 1990) and goes through two gradients.
    """
    if task.trace is not None:
        return task.trace.to(x.device).expand(len(x))
    signs = rng.uniform(key, SITE_SIGN, x[0].numel()).view_as(x).round().to(x) * 2 - 1
    with torch.enable_grad():
        free = x.detach().requires_grad_()
        misfit = task.measured.misfit(free).sum() / 2
        (slope,) = torch.autograd.grad(misfit, free, create_graph=True)
        (bent,) = torch.autograd.grad((slope * signs).sum(), free)
    return _dot(signs, bent)
