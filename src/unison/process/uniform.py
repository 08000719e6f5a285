"""The uniform-state process: each token survives with probability alpha, else is redrawn."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import categorical
from unison.process.schedule import LogLinear, Schedule
from unison.types import Belief, Logits, LogProbs, Mask, Time, Tokens


class Mixture(NamedTuple):
    """The posterior q(x_s | x_t, x_0) as a mixture of three simple laws; rows sum to 1.

    Attributes:
        stay: Weight of the point mass at x_t.
        clean: Weight of the belief x_0.
        noise: Weight of the uniform law.
    """

    stay: Float[Tensor, "B L"]
    clean: Float[Tensor, "B L"]
    noise: Float[Tensor, "B L"]


@dataclass(frozen=True)
class Uniform:
    """Uniform-state diffusion (Schiff et al., 2024, arXiv:2412.10193; Duo, arXiv:2506.10892).

    A corrupted token is redrawn uniformly over all V tokens and may hit itself.

    Attributes:
        vocab_size: V.
        schedule: Survival probability over time.
    """

    vocab_size: int
    schedule: Schedule = field(default_factory=LogLinear)

    def __post_init__(self) -> None:
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size must be at least 2, got {self.vocab_size}.")

    @property
    def num_states(self) -> int:
        """The tokens themselves: there is no mask."""
        return self.vocab_size

    def prior(self, u: Float[Tensor, "B L"]) -> Tokens:
        """Return the state at t=1: uniform tokens."""
        return (u * self.vocab_size).long().clamp(max=self.vocab_size - 1)

    def corrupt(self, x0: Tokens, alpha: Time, u: Float[Tensor, "B L"]) -> Tokens:
        """Sample x_t ~ q(x_t | x_0); where u >= alpha_t, what is left of u picks the token."""
        alpha = alpha[:, None].to(u.dtype)
        return torch.where(u < alpha, x0, self.prior(((u - alpha) / (1 - alpha)).clamp(min=0)))

    def settled(self, xt: Tokens) -> Mask:
        """Return True where no reverse step changes the token any more: nowhere before t=0."""
        return torch.zeros_like(xt, dtype=torch.bool)

    def belief(self, logits: Belief) -> Belief:
        """Return a plain log-softmax."""
        return logits.float().log_softmax(-1)

    def log_x0(self, logits: Logits, xt: Tokens) -> LogProbs:
        """Return the belief as it is.

        The bound is tightest where belief i is p(x_0 at i | x_t but for its own token): the
        posterior adds the current token's evidence itself. A rule that ranks clean tokens by
        probability must first weigh the belief by K alpha_t 1[x_t] + 1 - alpha_t.
        """
        return self.belief(logits)

    def mixture(self, p_current: Float[Tensor, "B L"], alpha_s: Time, alpha_t: Time) -> Mixture:
        r"""Return the posterior's weights, float64 (arXiv:2506.10892, Eq. 4, regrouped).

            q = [ (K a_t x_i + a_ts - a_t) 1[x_t] + (a_s - a_t) x + (1 - a_ts)(1 - a_s) / K ] / D,
            D = K a_t x_i + 1 - a_t,    a_ts = a_t / a_s

        Args:
            p_current: x_i, the belief's probability of the current token.
            alpha_s: Survival at the earlier (cleaner) time of each row.
            alpha_t: Survival at the current time of each row.
        """
        a_s, a_t = alpha_s[:, None].double(), alpha_t[:, None].double()
        a_ts = a_t / a_s
        certain = self.vocab_size * a_t * p_current.double()
        total = certain + 1 - a_t
        noise = (1 - a_ts) * (1 - a_s)
        return Mixture(
            (certain + a_ts - a_t) / total,
            (a_s - a_t).expand_as(total) / total,
            noise.expand_as(total) / total,
        )

    def log_posterior(
        self, xt: Tokens, log_x0: LogProbs, alpha_s: Time, alpha_t: Time
    ) -> Float[Tensor, "B L V"]:
        """Return log p(x_s | x_t) for s < t with the belief plugged in, float64."""
        x0 = log_x0.double().exp()
        current = xt[..., None]
        mix = self.mixture(x0.gather(-1, current)[..., 0], alpha_s, alpha_t)
        spread = mix.clean[..., None] * x0 + mix.noise[..., None] / self.vocab_size
        return spread.scatter_add(-1, current, mix.stay[..., None]).log()

    def sample_posterior(
        self,
        xt: Tokens,
        log_x0: LogProbs,
        alphas: tuple[Time, Time],
        u_jump: Float[Tensor, "B L"],
        u_target: Float[Tensor, "B L"],
    ) -> Tokens:
        """Sample x_s ~ p(x_s | x_t): first stay, believe or redraw, then which token.

        The same law as ``log_posterior`` without forming it.

        Args:
            xt: Current tokens.
            log_x0: Normalised log p(x_0 | x_t).
            alphas: (alpha_s, alpha_t), alpha_s > alpha_t.
            u_jump: Uniforms that decide which part of the mixture speaks.
            u_target: Uniforms that decide the token.
        """
        p_current = log_x0.gather(-1, xt[..., None])[..., 0].double().exp()
        mix = self.mixture(p_current, *alphas)
        believe = u_jump < mix.clean
        redraw = ~believe & (u_jump < mix.clean + mix.noise)
        drawn = categorical.sample_where(log_x0, u_target, believe)
        return torch.where(believe, drawn, torch.where(redraw, self.prior(u_target), xt))
