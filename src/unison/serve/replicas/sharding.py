"""How is one transformer split over several devices, so that each holds a part of every layer?

Tensor parallelism as in Megatron-LM (Shoeybi et al., 2019, arXiv:1909.08053): the input projections
of attention and MLP are split by rows, whole heads at a time, the output projections by columns,
and what the ranks say is added up twice a block. Embedding, norms and output layer stay whole.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models import Transformer
from unison.models.layers import Attention
from unison.models.mlp import GeluMlp, SwiGluMlp

Add = Callable[[Tensor], Tensor]  # from a rank's part of a sum to the sum over all ranks


class Summed(nn.Module):
    """A linear map of which every rank holds some columns.

    Attributes:
        weight: This rank's columns.
        bias: Added once, after the sum.
        add: The sum over all ranks.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, add: Add) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole map of what all ranks hold together."""
        said = self.add(F.linear(x, self.weight))
        return said if self.bias is None else said + self.bias


def refused(network: object, size: int) -> str | None:
    """Return why a network cannot be split over so many ranks; ``None`` where it can."""
    if not isinstance(network, Transformer):
        return f"a {type(network).__name__} is not split; only unison's own transformer is."
    config = network.config
    if config.mixture is not None:
        return "a mixture of experts is not split yet; use replicas instead."
    kv_heads = config.num_kv_heads
    if size < 1 or config.heads % size or (kv_heads % size and size % kv_heads):
        known = [
            n
            for n in range(1, config.heads + 1)
            if config.heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)
        ]
        return (
            f"{config.heads} query heads and {kv_heads} key heads cannot be dealt to {size} "
            f"devices; use one of {', '.join(map(str, known))}."
        )
    if any(type(part.qkv) is not nn.Linear for part in _attentions(network)):
        return "quantised weights are not split; load the model as it is stored."
    return None


def shard(network: Transformer, rank: int, size: int, add: Add) -> Transformer:
    """Return what one rank holds: the same network, with a part of every block.

    Args:
        network: The whole; weights that are not split are shared with it.
        rank: Which part, from 0.
        size: Parts.
        add: The sum over all ranks of a tensor each has; every rank must call it as often.

    Raises:
        ValueError: The network cannot be split into so many.
    """
    reason = refused(network, size)
    if reason is not None:
        raise ValueError(reason)
    same = {id(part): part for part in (*network.parameters(), *network.buffers())}
    mine = copy.deepcopy(network, same)  # what is in the memo is not copied
    for attention in _attentions(mine):
        _split_attention(attention, rank, size, add)
    for mlp in [part for part in mine.modules() if isinstance(part, GeluMlp | SwiGluMlp)]:
        _split_mlp(mlp, rank, size, add)
    return mine


def _attentions(network: nn.Module) -> list[Attention]:
    return [part for part in network.modules() if isinstance(part, Attention)]


def _split_attention(attention: Attention, rank: int, size: int, add: Add) -> None:
    """Keep the rank's query heads and the key and value heads they look at."""
    heads, kv_heads = attention.heads, attention.kv_heads
    queries = range(rank * heads // size, (rank + 1) * heads // size)
    first = rank * kv_heads // size
    keys = range(first, first + max(kv_heads // size, 1))  # with few of them, ranks share one
    rows = [
        *queries,
        *(heads + head for head in keys),
        *(heads + kv_heads + head for head in keys),
    ]
    width = attention.head_dim
    attention.qkv = _rows(attention.qkv, _spread(rows, width))
    attention.out = _columns(attention.out, _spread(queries, width), add)  # pyright: ignore
    attention.heads, attention.kv_heads = len(queries), len(keys)


def _split_mlp(mlp: GeluMlp | SwiGluMlp, rank: int, size: int, add: Add) -> None:
    """Keep the rank's share of the inner width."""
    inner = mlp.down.in_features
    share = torch.arange(inner).tensor_split(size)[rank]
    if isinstance(mlp, SwiGluMlp):
        mlp.gate_up = _rows(mlp.gate_up, torch.cat([share, inner + share]))
    else:
        mlp.up = _rows(mlp.up, share)
    mlp.down = _columns(mlp.down, share, add)  # pyright: ignore[reportAttributeAccessIssue]


def _spread(heads: range | list[int], width: int) -> Tensor:
    """Return the features of heads, in order."""
    return (torch.tensor(list(heads))[:, None] * width + torch.arange(width)).flatten()


@torch.no_grad()
def _rows(linear: nn.Linear, rows: Tensor) -> nn.Linear:
    """Return a linear map with some of the outputs."""
    rows = rows.to(linear.weight.device)
    part = nn.Linear(linear.in_features, len(rows), linear.bias is not None, device="meta")
    part.weight = nn.Parameter(linear.weight[rows], requires_grad=False)
    if linear.bias is not None:
        part.bias = nn.Parameter(linear.bias[rows], requires_grad=False)
    return part


@torch.no_grad()
def _columns(linear: nn.Linear, columns: Tensor, add: Add) -> Summed:
    """Return a linear map of some of the inputs, to be added up with the others'."""
    part = linear.weight[:, columns.to(linear.weight.device)].contiguous()
    return Summed(part, linear.bias, add)
