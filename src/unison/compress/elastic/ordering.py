"""In which order do heads and units stand, so that the first are those to keep? By their weights.

A head's or unit's importance is the root of the product of squared norms of what it reads with and
what it writes with (as OFA sorts channels by their norms: Cai et al., 2019, arXiv:1908.09791).
Standing in another order, they add up to the same function.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unison.models import Transformer
from unison.models.layers import Attention
from unison.models.mlp import GeluMlp, SwiGluMlp

Order = Int[Tensor, " U"]


@torch.no_grad()
def ordered(network: Transformer) -> Transformer:
    """Return the same network with its heads and units in the order of importance.

    Heads that share keys and values stay together.
    """
    made = copy.deepcopy(network)
    for part in made.modules():
        if isinstance(part, Attention):
            _heads(part)
        elif isinstance(part, SwiGluMlp):
            both = _order(
                part.gate_up.weight.unflatten(0, (2, -1)).transpose(0, 1), part.down.weight
            )
            _rows(part.gate_up, torch.cat([both, both + len(both)]))
            _columns(part.down, both)
        elif isinstance(part, GeluMlp):
            order = _order(part.up.weight, part.down.weight)
            _rows(part.up, order)
            _columns(part.down, order)
    return made


def _order(into: Float[Tensor, "U ..."], out: Float[Tensor, "O U"]) -> Order:
    """Return units by falling importance; equals as they stood."""
    score = into.flatten(1).square().sum(1) * out.square().sum(0)
    return score.argsort(descending=True, stable=True)


def _heads(part: Attention) -> None:
    """Sort groups of heads, and the heads of their keys and values alike."""
    width, groups = part.head_dim, part.kv_heads
    split = [part.heads * width, groups * width, groups * width]
    values = part.qkv.weight.split(split)[2].unflatten(0, (groups, width))
    reading = part.out.weight.unflatten(1, (groups, -1))
    score = values.square().sum((1, 2)) * reading.square().sum((0, 2))
    order = score.argsort(descending=True, stable=True)
    asking = _spread(order, part.heads // groups * width)
    narrow = _spread(order, width)
    rows = torch.cat([asking, narrow + split[0], narrow + split[0] + split[1]])
    _rows(part.qkv, rows)
    _columns(part.out, asking)


def _spread(order: Order, width: int) -> Int[Tensor, " R"]:
    """Return the rows of groups of so many rows, in the order of the groups."""
    return (order[:, None] * width + torch.arange(width, device=order.device)).flatten()


def _rows(linear: nn.Linear, order: Order) -> None:
    linear.weight.copy_(linear.weight[order])
    if linear.bias is not None:
        linear.bias.copy_(linear.bias[order])


def _columns(linear: nn.Linear, order: Order) -> None:
    linear.weight.copy_(linear.weight[:, order])
