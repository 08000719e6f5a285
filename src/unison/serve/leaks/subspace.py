"""How few numbers are a whole vocabulary's log-probabilities? As many as the output layer reads.

Logits are W h + b with W of V rows and D columns, and log-probabilities those less one number, the
log of the sum. So log p - b lies in the space spanned by W and a column of ones, of rank D + 1 at
most: D + 1 told numbers whose rows are independent give h, and with it all V of them (Carlini et
al., 2024, arXiv:2403.06634, found W itself that way; Nazir et al., 2025, arXiv:2506.17090, compress
what an inverter reads). A rounded number leaves h in a box instead of a point.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unison.models import Network, Transformer
from unison.serve.leaks.knobs import Told


class Head(NamedTuple):
    """An output layer, which the attacker knows.

    Attributes:
        weight: W.
        bias: b; zeros where there is none.
    """

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, " V"]

    @property
    def rank(self) -> int:
        """Dimensions of log p - b: told numbers that give all others."""
        return int(torch.linalg.matrix_rank(_axes(self)))


class Rebuilt(NamedTuple):
    """Log-probabilities rebuilt from some of them.

    Attributes:
        logp: Of the whole vocabulary, normalised.
        hidden: What the output layer would have read; the shortest of all where several fit.
        residual: Root mean square by which the told numbers are missed, nats.
        settled: Whether the told numbers, were they exact, leave nothing open.
    """

    logp: Float[Tensor, "N V"]
    hidden: Float[Tensor, "N D"]
    residual: Float[Tensor, " N"]
    settled: Bool[Tensor, " N"]


def head_of(network: Network) -> Head:
    """Return the output layer of one of our transformers, float64.

    Raises:
        ValueError: It is another network.
    """
    if not isinstance(network, Transformer):
        raise ValueError(
            f"the output layer of a {type(network).__name__} is not known here; only that of a "
            "unison Transformer is."
        )
    layer = network.head
    weight = network.embed.weight[: network.config.vocab_size] if layer is None else layer.weight
    bias = None if layer is None else layer.bias
    whole = weight.detach().double()
    return Head(whole, whole.new_zeros(len(whole)) if bias is None else bias.detach().double())


def rebuild(told: Told, head: Head) -> Rebuilt:
    """Return all log-probabilities from those that are told, by least squares.

    Args:
        told: What a server tells of some places (N), with as many tokens each (K).
        head: The output layer.
    """
    axes = _axes(head)
    picked = axes[told.tokens]
    wanted = (told.logp - head.bias[told.tokens])[..., None]
    solved = torch.linalg.pinv(picked) @ wanted
    hidden = solved[..., :-1, 0]
    missed = (picked @ solved - wanted)[..., 0]
    residual = missed.square().mean(-1).sqrt() if missed.shape[-1] else missed.sum(-1)
    logp = (hidden @ head.weight.T + head.bias).log_softmax(-1)
    return Rebuilt(logp, hidden, residual, torch.linalg.matrix_rank(picked) >= head.rank)


def seen_rank(logp: Float[Tensor, "N V"]) -> int:
    """Return the rank of many log-probability vectors, of a layer without bias D + 1.

    The attacker needs no weights for that: it counts the singular values above the widest gap
    between neighbours, as Carlini et al. (2024) do. It needs more vectors than the rank.

    Raises:
        ValueError: There are fewer than two vectors.
    """
    if len(logp) < 2:
        raise ValueError(f"a rank is seen in at least 2 vectors, got {len(logp)}.")
    values = torch.linalg.svdvals(logp.double())
    tiny = torch.finfo(torch.float64).tiny
    return int(values.clamp(min=tiny).log().diff().argmin()) + 1


def _axes(head: Head) -> Float[Tensor, "V E"]:
    """Return W beside a column of ones, which stands for the log of the sum."""
    return torch.cat([head.weight, torch.ones_like(head.weight[:, :1])], dim=1)
