"""Autoregression whose hidden states keep apart: what contrastive search is best fed with."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from unison.objectives.batch import Batch, Needs, summed
from unison.prob.rng import Key
from unison.process import Sequential
from unison.types import Logits, Mask, Nats, SoftTokens, Time, Tokens


@runtime_checkable
class ReadableNetwork(Protocol):
    """A network whose last hidden states can be read."""

    def features(
        self, inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None
    ) -> Float[Tensor, "B L D"]:
        """Return what the output layer reads."""
        ...

    def logits(self, h: Float[Tensor, "B L D"]) -> Logits:
        """Return what the output layer answers to it."""
        ...


@dataclass(frozen=True)
class SimCtg:
    r"""SimCTG (Su et al., 2022, arXiv:2202.06417): likelihood, and a margin between positions.

        -log p(x_i | x_<i)  +  mean over j != i of max(0, margin - 1 + cos(h_i, h_j))

    h_i is what the output layer reads to predict x_i, j the other real positions of the row. The
    second term is 0 where all cosines are at most 1 - ``margin``, and then this is ``ar``; it is no
    bound otherwise.

    Differs: the margin's mean is taken row by row, over the real positions j of each i, and not
    once over all pairs of a batch: a short row's pairs weigh more than a long one's, and the loss
    is a sum over tokens like any other. For rows of one length it is the published loss.

    Attributes:
        margin: Largest wanted difference from a cosine of 1; 0.5 as published, 0 for ``ar``.
    """

    needs: ClassVar[Needs] = Needs(attention=("causal",), self_conditioning=(False,))
    margin: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 2:
            raise ValueError(f"objective.margin must be in [0, 2], got {self.margin}.")

    @property
    def process(self) -> str:
        """The process whose network it trains."""
        return "sequential"

    def __call__(
        self, process: Sequential, network: ReadableNetwork, batch: Batch, key: Key
    ) -> Nats:
        """Return the summed loss."""
        return summed(self.losses(process, network, batch, key), batch)

    def losses(
        self, process: Sequential, network: ReadableNetwork, batch: Batch, key: Key
    ) -> Float[Tensor, "B L"]:
        """Return the loss of every token; no randomness is used."""
        del key
        h = network.features(process.shifted(batch.tokens), batch.strata, batch.valid)
        logits = network.logits(h).float().transpose(1, 2)
        nll = F.cross_entropy(logits, batch.tokens, reduction="none")
        return nll + _crowding(h, batch.valid, self.margin)


def _crowding(h: Float[Tensor, "B L D"], valid: Mask | None, margin: float) -> Float[Tensor, "B L"]:
    """Return by how much each position's cosines with the others exceed 1 - margin, on average."""
    with torch.autocast(h.device.type, enabled=False):  # a cosine near 1 needs its digits
        way = F.normalize(h.float(), dim=-1)
        over = (margin - 1 + way @ way.mT).clamp(min=0)
    length = h.shape[1]
    other = ~torch.eye(length, dtype=torch.bool, device=h.device)
    other = other.expand(len(h), -1, -1) if valid is None else other & valid[:, None]
    return over.where(other, 0.0).sum(-1) / other.sum(-1).clamp(min=1)
