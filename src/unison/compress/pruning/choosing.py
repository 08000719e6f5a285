"""How many units go, and which? The same number in every layer, so that a plain shape is left.

Query heads that share keys and values go together with them where the number allows it, else
evenly from every such group. MLP widths stay multiples of 32 where they were, for quantisation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.compress.levels import CompressError
from unison.compress.pruning.importance import Scores
from unison.engine.quantised.grid import GROUP
from unison.models import TransformerConfig

_SLACK = 1e-9  # 0.29 * 100 must count as 29


class Kept(NamedTuple):
    """What is left of one layer, in order.

    Attributes:
        heads: Query heads.
        shared: Heads of keys and values.
        mlp: MLP units.
    """

    heads: Int[Tensor, " H"]
    shared: Int[Tensor, " G"]
    mlp: Int[Tensor, " M"]


def heads_left(config: TransformerConfig, share: float) -> tuple[int, int]:
    """Return query heads and shared heads that stay when a share of the former goes.

    Raises:
        CompressError: The share is out of range, or cannot be taken evenly.
    """
    gone = _gone("heads", share, config.heads, 1)
    groups = config.num_kv_heads
    each = config.heads // groups
    if gone % each == 0:
        return config.heads - gone, groups - gone // each
    if gone % groups == 0:
        return config.heads - gone, groups
    shares = sorted({n for n in range(config.heads) if n % each == 0 or n % groups == 0} - {0})
    raise CompressError(
        f"{gone} of {config.heads} heads cannot go evenly where {each} share each of {groups} "
        "heads of keys and values; take out a share that makes it "
        f"{' or '.join(map(str, shares))} heads."
    )


def units_left(config: TransformerConfig, share: float) -> int:
    """Return MLP units that stay.

    Raises:
        CompressError: The share is out of range.
    """
    width = config.mlp_width
    return width - _gone("mlp", share, width, GROUP if width % GROUP == 0 else 1)


def _gone(name: str, share: float, count: int, multiple: int) -> int:
    """Return the largest number of units within the share that is a multiple."""
    if not 0 <= share < 1:
        raise CompressError(f"the share of {name} to prune must be in [0, 1), got {share}.")
    gone = int(share * count + _SLACK) // multiple * multiple
    if share and not gone:
        least = multiple / count
        many = f"{multiple} of {count}"
        hint = f"at least {least:.3g}" if least < 1 else "0: there are no more than that"
        raise CompressError(f"{share} of {name} is less than {many}; take {hint}.")
    return gone


def kept(config: TransformerConfig, scores: Scores, heads: float, mlp: float) -> list[Kept]:
    """Return what stays of every layer: the most important units.

    Raises:
        CompressError: See ``heads_left`` and ``units_left``.
    """
    queries, shared = heads_left(config, heads)
    width = units_left(config, mlp)
    return [
        Kept(*_heads(own, config.num_kv_heads, queries, shared), _best(units, width))
        for own, units in zip(scores.heads, scores.mlp, strict=True)
    ]


def _heads(
    scores: Float[Tensor, " H"], groups: int, queries: int, shared: int
) -> tuple[Tensor, Tensor]:
    """Return query heads and shared heads that stay; whole groups go first, then some of each."""
    table = scores.unflatten(0, (groups, -1))
    stay = _best(table.sum(1), shared)
    each = queries // shared
    within = torch.stack([_best(table[g], each) for g in stay])
    return (stay[:, None] * table.shape[1] + within).flatten(), stay


def _best(scores: Float[Tensor, " U"], count: int) -> Int[Tensor, " K"]:
    """Return the numbers of the largest, in order; of equals the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values
