"""The trivial process of autoregression: positions are decided one by one, left to right."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unison.types import Logits, LogProbs, Mask, Tokens


@dataclass(frozen=True)
class Sequential:
    """A canvas whose undecided tail is filled from the left; nothing is ever noised.

    Attributes:
        vocab_size: V; the id V marks an undecided position and is never shown to a network.
    """

    vocab_size: int

    def __post_init__(self) -> None:
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {self.vocab_size}.")

    @property
    def num_states(self) -> int:
        """Tokens and the beginning-of-sequence symbol."""
        return self.vocab_size + 1

    @property
    def mask_id(self) -> int:
        """The mark of an undecided position."""
        return self.vocab_size

    def prior(self, u: Float[Tensor, "B L"]) -> Tokens:
        """Return an undecided canvas."""
        return torch.full(u.shape, self.mask_id, device=u.device)

    def settled(self, xt: Tokens) -> Mask:
        """Return True where the token is decided."""
        return xt != self.mask_id

    def shifted(self, xt: Tokens) -> Tokens:
        """Return [BOS, x_1 .. x_(L-1)], what a causal network reads to speak of x_1 .. x_L.

        The mark of an undecided position doubles as BOS: no position whose answer is read sees
        an undecided one.
        """
        begin = torch.full_like(xt[:, :1], self.mask_id)
        return torch.cat([begin, xt[:, :-1]], dim=1)

    def log_x0(self, logits: Logits, xt: Tokens) -> LogProbs:
        """Return log p(x_i | x_<i)."""
        return logits.float().log_softmax(-1)
