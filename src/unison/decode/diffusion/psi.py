"""Ψ-samplers: every step mixes the reverse chain with drawing clean text and noising it again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from unison.decode import grid
from unison.decode.api import SITE_EXTRA, SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Denoiser, Law, Time, Tokens

SITE_RENOISE = SITE_EXTRA + 1
Pair = tuple[Time, Time]


@dataclass(frozen=True)
class Psi:
    r"""Sample x_s ~ Ψ(x_s | x_t) (The Diffusion Duality, Chapter II, arXiv:2602.21185, Eq. 11-12).

        Ψ = kappa q(x_s | x_t, x_theta) + (1 - kappa) [alpha_s q(x_0 | x_t, x_theta)
                                                       + (1 - alpha_s) prior]

    With the true x_0 in place of the belief every kappa keeps the marginals of the process; less
    kappa lets tokens be drawn again and errors be mended. One evaluation per step.

    kappa by ``mode``, where ``sigma`` is ReMDM's rate of noising a clean token again
    (arXiv:2503.00307) and kappa = clip(1 - sigma / (1 - alpha_s), 0, 1):

        posterior   1: ancestral sampling
        renoise     0: always draw clean text and noise it
        constant    the field ``kappa``
        cap         sigma = min(eta, (1 - alpha_s) / alpha_t)
        rescale     sigma = eta min(1, (1 - alpha_s) / alpha_t)
        remdm       sigma = eta

    On masks that is ReMDM's law while sigma <= 1 - alpha_s, the most that kappa = 0 remasks.

    Law: the N-step chain of Ψ.

    Differs: the published code's "rescale" multiplies by eta twice, its loop profile spends one
    step without moving where two segments join, and it stops at t=1e-5.

    Attributes:
        steps: N, the number of denoiser evaluations.
        mode: How kappa is found, inside the middle segment; outside it kappa is 1.
        kappa: Weight of the posterior, for ``constant``.
        eta: Rate of noising again, for ``cap``, ``rescale`` and ``remdm``.
        high: Fraction of the steps before the middle segment.
        middle: Fraction of the steps in the middle segment; the rest follow it.
        profile: ``linear`` in time; ``loop`` falls over the high segment to the time where
            alpha = ``alpha_on``, stays there over the middle, then falls to 0.
        alpha_on: Survival probability at which ``loop`` stays.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    steps: int = 64
    mode: Literal["posterior", "renoise", "constant", "cap", "rescale", "remdm"] = "rescale"
    kappa: float = 0.95
    eta: float = 0.05
    high: float = 0.0
    middle: float = 1.0
    profile: Literal["linear", "loop"] = "linear"
    alpha_on: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")
        if self.mode not in _KAPPA:
            raise ValueError(f"mode must be one of {', '.join(_KAPPA)}, got {self.mode!r}.")
        _check_fractions(kappa=self.kappa, eta=self.eta, high=self.high, middle=self.middle)
        if self.high + self.middle > 1:
            raise ValueError(f"high + middle must be at most 1, got {self.high} + {self.middle}.")
        if self.profile not in _TIMES:
            raise ValueError(f"profile must be one of {', '.join(_TIMES)}, got {self.profile!r}.")
        if not 0 < self.alpha_on < 1:
            raise ValueError(f"alpha_on must be in (0, 1), got {self.alpha_on}.")
        if self.profile == "loop":
            _check_loop(self)

    def budget(self, length: int) -> int:
        """Return N."""
        return self.steps

    def step(
        self, process: Absorbing | Uniform, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draw x_s from the posterior, or x_0 and noise it, at every position at once."""
        xt, parts = canvas.tokens, grid.segments(self.steps, self.high, self.middle)
        t, s = _TIMES[self.profile](self, process, key.step, xt)
        log_x0 = denoise(xt, t)
        alpha_s, alpha_t = grid.survival(process, s, xt), grid.survival(process, t, xt)
        u_jump = rng.uniform(key, SITE_JUMP, xt.shape[1])
        u_target = rng.uniform(key, SITE_TARGET, xt.shape[1])
        xs = process.sample_posterior(xt, log_x0, (alpha_s, alpha_t), u_jump, u_target)
        if parts.middle_has(key.step) and self.mode != "posterior":
            # A position reads one of the two branches, so they may share their uniforms.
            ones = torch.ones_like(alpha_s)
            x0 = process.sample_posterior(xt, log_x0, (ones, alpha_t), u_jump, u_target)
            kappa = _KAPPA[self.mode](self, alpha_s, alpha_t)
            xs = _mix(process, (xs, x0), (kappa, alpha_s), key)
        # A token that settled may only count as final once no later step noises it again.
        final = self.mode == "posterior" or not parts.middle_follows(key.step)
        done = (process.settled(xs) | canvas.given).all(1) & final
        last = key.step + 1 >= self.steps
        return canvas._replace(tokens=xs), StepInfo(xs != xt, done | last)


def _mix(
    process: Absorbing | Uniform, drawn: tuple[Tokens, Tokens], rates: tuple[Time, Time], key: Key
) -> Tokens:
    (xs, x0), (kappa, alpha_s) = drawn, rates
    u_branch = rng.uniform(key, SITE_EXTRA, xs.shape[1])
    again = process.corrupt(x0, alpha_s, rng.uniform(key, SITE_RENOISE, xs.shape[1]))
    return torch.where(u_branch < kappa[:, None], xs, again)


def _from_sigma(sigma: Time, alpha_s: Time) -> Time:
    kappa = (1 - sigma / (1 - alpha_s)).clamp(0, 1)
    return torch.where(alpha_s < 1, kappa, torch.ones_like(kappa))  # at s=0 both branches agree


def _cap(psi: Psi, alpha_s: Time, alpha_t: Time) -> Time:
    return _from_sigma(((1 - alpha_s) / alpha_t).clamp(max=psi.eta), alpha_s)


def _rescale(psi: Psi, alpha_s: Time, alpha_t: Time) -> Time:
    return _from_sigma(psi.eta * ((1 - alpha_s) / alpha_t).clamp(max=1), alpha_s)


def _remdm(psi: Psi, alpha_s: Time, alpha_t: Time) -> Time:
    return _from_sigma(torch.full_like(alpha_s, psi.eta), alpha_s)


_KAPPA: dict[str, Callable[[Psi, Time, Time], Time]] = {
    "posterior": lambda psi, alpha_s, alpha_t: torch.ones_like(alpha_s),
    "renoise": lambda psi, alpha_s, alpha_t: torch.zeros_like(alpha_s),
    "constant": lambda psi, alpha_s, alpha_t: torch.full_like(alpha_s, psi.kappa),
    "cap": _cap,
    "rescale": _rescale,
    "remdm": _remdm,
}


def _linear(psi: Psi, process: Absorbing | Uniform, step: int, like: Tokens) -> Pair:
    t, s = 1 - step / psi.steps, 1 - (step + 1) / psi.steps
    return grid.per_row(t, like), grid.per_row(s, like)


def _loop(psi: Psi, process: Absorbing | Uniform, step: int, like: Tokens) -> Pair:
    parts = grid.segments(psi.steps, psi.high, psi.middle)
    return grid.plateau(process, parts, psi.alpha_on, step, like)


_TIMES: dict[str, Callable[[Psi, Absorbing | Uniform, int, Tokens], Pair]] = {
    "linear": _linear,
    "loop": _loop,
}


def _check_fractions(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}.")


def _check_loop(psi: Psi) -> None:
    parts = grid.segments(psi.steps, psi.high, psi.middle)
    if min(parts.high, parts.low) < 1:
        raise ValueError(
            "profile 'loop' needs at least one step before and one after the middle segment; "
            f"steps={psi.steps}, high={psi.high}, middle={psi.middle} give {parts.high} and "
            f"{parts.low}. Take more steps or a shorter middle."
        )
