"""The absorbing (masked) process: each token survives with probability alpha, else is masked."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unison.prob import categorical
from unison.process.schedule import LogLinear, Schedule
from unison.types import Belief, Logits, LogProbs, Mask, Time, Tokens


@dataclass(frozen=True)
class Absorbing:
    """Masked diffusion (Sahoo et al., 2024, arXiv:2406.07524).

    Attributes:
        vocab_size: V, the tokens a network gives logits for.
        schedule: Survival probability over time.
        mask_id: The absorbing state: V itself, a state of its own, unless a checkpoint keeps its
            mask inside the vocabulary; no text is ever predicted to hold it.
    """

    vocab_size: int
    schedule: Schedule = field(default_factory=LogLinear)
    mask_id: int = -1  # -1 stands for V

    def __post_init__(self) -> None:
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {self.vocab_size}.")
        if not -1 <= self.mask_id <= self.vocab_size:
            raise ValueError(
                f"mask_id must be a token or the state after the last one, in "
                f"[0, {self.vocab_size}], got {self.mask_id}."
            )
        if self.mask_id == -1:
            object.__setattr__(self, "mask_id", self.vocab_size)

    @property
    def num_states(self) -> int:
        """Tokens and the mask."""
        return max(self.vocab_size, self.mask_id + 1)

    def prior(self, u: Float[Tensor, "B L"]) -> Tokens:
        """Return the state at t=1: all masks."""
        return torch.full(u.shape, self.mask_id, device=u.device)

    def corrupt(self, x0: Tokens, alpha: Time, u: Float[Tensor, "B L"]) -> Tokens:
        """Sample x_t ~ q(x_t | x_0): keep each token where u < alpha_t."""
        return torch.where(u < alpha[:, None], x0, self.mask_id)

    def settled(self, xt: Tokens) -> Mask:
        """Return True where no reverse step changes the token any more."""
        return xt != self.mask_id

    def belief(self, logits: Belief) -> Belief:
        """Return what a network says by itself, also of tokens that are settled."""
        logits = logits.float()
        if self.mask_id < self.vocab_size:
            said = torch.arange(self.vocab_size, device=logits.device) != self.mask_id
            logits = logits.where(said, -torch.inf)
        return logits.log_softmax(-1)

    def log_x0(self, logits: Logits, xt: Tokens) -> LogProbs:
        """Return log p(x_0 | x_t): a clean token is certain to stay (carry-over)."""
        logp = self.belief(logits)
        certain = torch.arange(self.vocab_size, device=xt.device) == xt[..., None]
        kept = torch.where(certain, 0.0, -torch.inf)
        return torch.where(xt[..., None] == self.mask_id, logp, kept)

    def log_posterior(
        self, xt: Tokens, log_x0: LogProbs, alpha_s: Time, alpha_t: Time
    ) -> Float[Tensor, "B L S"]:
        r"""Return log p(x_s | x_t) for s < t with the belief plugged in, over all states.

            p(x_s = v    | x_t = m) = (alpha_s - alpha_t) / (1 - alpha_t) * x_0(v)
            p(x_s = m    | x_t = m) = (1 - alpha_s) / (1 - alpha_t)
            p(x_s = x_t  | x_t)     = 1

        Args:
            xt: Current tokens, mask_id where undecided.
            log_x0: Normalised log p(x_0 | x_t).
            alpha_s: Survival at the earlier (cleaner) time of each row.
            alpha_t: Survival at the current time of each row.
        """
        unmask = ((alpha_s - alpha_t) / (1 - alpha_t))[:, None, None]
        states = torch.arange(self.num_states, device=xt.device)
        spoken = F.pad(log_x0 + unmask.log(), (0, self.num_states - self.vocab_size))
        from_mask = torch.where(states == self.mask_id, torch.log1p(-unmask), spoken)
        from_clean = torch.where(states == xt[..., None], 0.0, -torch.inf).to(from_mask.dtype)
        return torch.where(xt[..., None] == self.mask_id, from_mask, from_clean)

    def sample_posterior(
        self,
        xt: Tokens,
        log_x0: LogProbs,
        alphas: tuple[Time, Time],
        u_jump: Float[Tensor, "B L"],
        u_target: Float[Tensor, "B L"],
    ) -> Tokens:
        """Sample x_s ~ p(x_s | x_t): first whether to unmask, then which token.

        The same law as ``log_posterior`` without forming it.

        Args:
            xt: Current tokens.
            log_x0: Normalised log p(x_0 | x_t).
            alphas: (alpha_s, alpha_t), alpha_s > alpha_t.
            u_jump: Uniforms that decide whether to unmask.
            u_target: Uniforms that decide the token.
        """
        alpha_s, alpha_t = (alpha.double() for alpha in alphas)
        unmask = ((alpha_s - alpha_t) / (1 - alpha_t))[:, None]
        jump = (xt == self.mask_id) & (u_jump < unmask)
        return torch.where(jump, categorical.sample_where(log_x0, u_target, jump), xt)
