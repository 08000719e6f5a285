"""ReMDM: masked diffusion that may mask a written token again and so correct itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode import grid
from unison.decode.api import SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.decode.jointly import weighed
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser, Law, Mask, Time, Tokens


@dataclass(frozen=True)
class ReMDM:
    r"""Remask written tokens at rate sigma (Wang et al., 2025, arXiv:2503.00307).

        p(x_s = m   | x_t != m) = sigma
        p(x_s = x_t | x_t != m) = 1 - sigma
        p(x_s = v   | x_t = m)  = (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t) * x_0(v)
        p(x_s = m   | x_t = m)  = the rest

    sigma by ``mode``, with bound = min(1, (1 - alpha_s) / alpha_t), above which the unmasking
    rate would not be one:

        cap      min(eta, bound)
        rescale  eta bound
        loop     as cap while alpha rests at alpha_on, else 0
        conf     bound times a softmax of minus the confidence over the written tokens of the
                 row; 0 at masks. Confidence is the belief's probability of a token at the time
                 it was written. Given tokens neither compete nor are remasked.

    Law: the N-step chain above; with ``conf`` the state includes the remembered confidences.

    Differs: every step goes through the noise schedule of the process, so any schedule will do,
    and the network sees the time that belongs to alpha also in the loop (published code assumes
    the log-linear one and shows the wall time); segments of the loop start on whole steps; the
    last update goes to t=0 exactly instead of taking an argmax at t=1e-5.

    Attributes:
        steps: N, the number of denoiser evaluations.
        mode: How sigma is found.
        eta: Rate of remasking, for all modes but ``conf``.
        t_on: Fraction of the run left when ``loop`` starts to rest.
        t_off: Fraction of the run left when ``loop`` falls again.
        alpha_on: Survival probability at which ``loop`` rests.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    steps: int = 64
    mode: Literal["cap", "rescale", "conf", "loop"] = "cap"
    eta: float = 0.02
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}.")
        if self.mode not in _SIGMA:
            raise ValueError(f"mode must be one of {', '.join(_SIGMA)}, got {self.mode!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}.")
        if not 0 < self.t_off <= self.t_on < 1:
            raise ValueError(
                f"0 < t_off <= t_on < 1 is needed, got t_off={self.t_off}, t_on={self.t_on}."
            )
        if not 0 < self.alpha_on < 1:
            raise ValueError(f"alpha_on must be in (0, 1), got {self.alpha_on}.")
        parts = self._parts()
        if self.mode == "loop" and min(parts.high, parts.low) < 1:
            raise ValueError(
                "mode 'loop' needs at least one step before t_on and one after t_off; "
                f"steps={self.steps}, t_on={self.t_on}, t_off={self.t_off} give {parts.high} "
                f"and {parts.low}. Take more steps or a shorter rest."
            )

    def budget(self, length: int) -> int:
        """Return N."""
        return self.steps

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Remask some written tokens and write some masked ones."""
        xt, written = canvas.tokens, canvas.tokens != process.mask_id
        t, s = self._times(process, key.step, xt)
        log_x0 = (weighed(denoise) if self.mode == "conf" else denoise)(xt, t)
        alpha_s, alpha_t = (grid.survival(process, time, xt)[:, None] for time in (s, t))
        # alpha_t may be 0; nothing is remasked on the way to clean text.
        bound = torch.where(alpha_s < 1, ((1 - alpha_s) / alpha_t).clamp(max=1), 0.0)
        sigma = _SIGMA[self.mode](self, bound, canvas, written & ~canvas.given)
        sigma = sigma if self._parts().middle_has(key.step) else torch.zeros_like(sigma)
        unmask = (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)
        jump = rng.uniform(key, SITE_JUMP, xt.shape[1]) < torch.where(written, sigma, unmask)
        u_target = rng.uniform(key, SITE_TARGET, xt.shape[1])
        drawn = categorical.sample_where(log_x0, u_target, jump & ~written)
        xs = torch.where(jump, torch.where(written, process.mask_id, drawn), xt)
        memory = _confidence(self, canvas, log_x0, drawn, jump & ~written)
        # A written token may only count as final once no later step remasks it.
        final = not self._parts().middle_follows(key.step)
        done = ((xs != process.mask_id) | canvas.given).all(1) & final
        last = key.step + 1 >= self.steps
        return canvas._replace(tokens=xs, memory=memory), StepInfo(xs != xt, done | last)

    def _parts(self) -> grid.Segments:
        if self.mode == "loop":
            return grid.segments(self.steps, 1 - self.t_on, self.t_on - self.t_off)
        return grid.Segments(0, self.steps, 0)

    def _times(self, process: Absorbing, step: int, like: Tokens) -> tuple[Time, Time]:
        if self.mode == "loop":
            return grid.plateau(process, self._parts(), self.alpha_on, step, like)
        t, s = 1 - step / self.steps, 1 - (step + 1) / self.steps
        return grid.per_row(t, like), grid.per_row(s, like)


Bound = Float[Tensor, "B 1"]
Rate = Float[Tensor, "B #L"]


def _capped(remdm: ReMDM, bound: Bound, canvas: Canvas, candidates: Mask) -> Rate:
    return bound.clamp(max=remdm.eta)


def _rescaled(remdm: ReMDM, bound: Bound, canvas: Canvas, candidates: Mask) -> Rate:
    return remdm.eta * bound


def _by_confidence(remdm: ReMDM, bound: Bound, canvas: Canvas, candidates: Mask) -> Rate:
    confidence = _remembered(canvas)
    share = torch.where(candidates, (-confidence).exp(), 0.0)
    total = share.sum(1, keepdim=True)
    return bound * share / torch.where(total > 0, total, 1.0)


_SIGMA: dict[str, Callable[[ReMDM, Bound, Canvas, Mask], Rate]] = {
    "cap": _capped,
    "rescale": _rescaled,
    "conf": _by_confidence,
    "loop": _capped,
}


def _remembered(canvas: Canvas) -> Float[Tensor, "B L"]:
    """Return the confidences; tokens that were there before the first step count as certain."""
    if canvas.memory is None:
        return torch.ones_like(canvas.tokens, dtype=torch.float64)
    return canvas.memory


def _confidence(
    remdm: ReMDM, canvas: Canvas, log_x0: Tensor, drawn: Tokens, wrote: Mask
) -> Float[Tensor, "B L"] | None:
    if remdm.mode != "conf":
        return canvas.memory
    chosen = log_x0.gather(-1, drawn[..., None])[..., 0].double().exp()
    return torch.where(wrote, chosen, _remembered(canvas))
