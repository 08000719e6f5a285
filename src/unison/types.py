"""The shape alphabet of the whole project, and the contracts several rooms speak.

B  batch rows            L  sequence positions     V  clean vocabulary (mask excluded)
D  width                 H  heads                  K  states kept by a soft token
t  diffusion time in [0, 1]: 0 is clean data, 1 is the prior
alpha  survival probability of a token at a time;  sigma = -log(alpha) is what networks see
"""

from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "B L"]
Mask = Bool[Tensor, "B L"]
Time = Float[Tensor, " B"]
Logits = Float[Tensor, "B L V"]
LogProbs = Float[Tensor, "B L V"]


class Law(Enum):
    """What a decoding strategy promises about the distribution of its output."""

    EXACT = "samples the law its docstring names, for every denoiser"
    GREEDY = "a deterministic function of the denoiser"
    BIASED = "a heuristic; only structural invariants hold"


class Nats(NamedTuple):
    """A sum of losses and what it is a sum over; the mean is taken once, after all are added.

    Attributes:
        total: Nats, summed over positions. Differentiable.
        count: Number of positions the sum is over.
    """

    total: Float[Tensor, ""]
    count: Int[Tensor, ""]


class Estimate(NamedTuple):
    """A number that was measured: never quoted without its error and its unit.

    Attributes:
        value: The estimate.
        stderr: Its standard error, in the same unit; 0 for exact numbers.
        n: Independent observations behind it.
        unit: For example ``bits/byte``.
    """

    value: float
    stderr: float
    n: int
    unit: str


class SoftTokens(NamedTuple):
    """Positions that hold a mixture of tokens; the network embeds the weighted mean.

    Attributes:
        weights: Mixture weights, over the whole vocabulary or over ``ids`` only.
        ids: The tokens the weights speak of; ``None`` means all V, in order.
    """

    weights: Float[Tensor, "B L K"]
    ids: Int[Tensor, "B L K"] | None = None


@runtime_checkable
class Network(Protocol):
    """A trainable model as objectives see it: noisy tokens and noise level in, logits out.

    Position i of the answer speaks of position i; ``sigma`` is -log(alpha) per row.
    """

    def __call__(
        self, inputs: Tokens | SoftTokens, sigma: Time, valid: Mask | None = None
    ) -> Logits:
        """Return unnormalised logits over the clean vocabulary."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A trained model as decoding sees it."""

    def __call__(self, xt: Tokens, t: Time) -> LogProbs:
        """Return log p(x_0 | x_t), float32, normalised over the clean vocabulary."""
        ...
