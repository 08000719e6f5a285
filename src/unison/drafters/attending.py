"""How does a drafter's layer look at what it remembers? Keys and values in hand, by slot."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from unison.models import layers
from unison.models.layers import Angles, Attention, Block, Hidden


class Past(NamedTuple):
    """Keys and values of one layer; slot n is [:, :, n].

    Attributes:
        keys: Rotated by place.
        values: As they are.
    """

    keys: Float[Tensor, "B H N E"]
    values: Float[Tensor, "B H N E"]

    def put(self, fresh: "Past", slots: Int[Tensor, "B M"]) -> "Past":
        """Return the memory with fresh keys and values at slots, with more room if need be.

        ``slots`` must lie below twice the room or the number of fresh ones beyond it.
        """
        where = slots[:, None, :, None].expand(fresh.keys.shape)
        return Past(
            self.keys.scatter(2, where, fresh.keys), self.values.scatter(2, where, fresh.values)
        )

    def roomy(self, room: int) -> "Past":
        """Return the memory with at least ``room`` slots, twice as many as before if it grows."""
        have = self.keys.shape[2]
        if have >= room:
            return self
        more = max(room, 2 * have) - have
        return Past(*(F.pad(part, (0, 0, 0, more)) for part in self))

    def keep(self, rows: Int[Tensor, " R"]) -> "Past":
        """Return the memory of some rows."""
        return Past(self.keys[rows], self.values[rows])


def empty(attention: Attention, rows: int, like: Tensor) -> Past:
    """Return a memory without slots."""
    none = like.new_zeros(rows, attention.kv_heads, 0, attention.head_dim)
    return Past(none, none)


def heads_of(
    attention: Attention, x: Hidden, angles: Angles
) -> tuple[Float[Tensor, "B H M E"], Past]:
    """Return the queries of some inputs, and their keys and values."""
    qkv = attention.qkv(x).unflatten(-1, (-1, attention.head_dim))
    queries, keys, values = qkv.split(
        [attention.heads, attention.kv_heads, attention.kv_heads], dim=2
    )
    if attention.q_norm is not None and attention.k_norm is not None:
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    queries, keys = layers.rotate(queries, angles), layers.rotate(keys, angles)
    return queries.transpose(1, 2), Past(keys.transpose(1, 2), values.transpose(1, 2))


def attended(
    attention: Attention,
    queries: Float[Tensor, "B H M E"],
    past: Past,
    sees: Bool[Tensor, "B M N"],
) -> Hidden:
    """Return what queries find in a memory, of which they see some slots; at least one each."""
    found = F.scaled_dot_product_attention(
        queries,
        past.keys,
        past.values,
        attn_mask=sees[:, None],
        enable_gqa=attention.kv_heads != attention.heads,
    )
    return attention.out(found.transpose(1, 2).flatten(2))


def joined(one: Past, other: Past) -> Past:
    """Return two memories as one, differentiably."""
    return Past(torch.cat([one.keys, other.keys], 2), torch.cat([one.values, other.values], 2))


def heads_in(block: Block, h: Hidden, angles: Angles) -> tuple[Float[Tensor, "B H M E"], Past]:
    """Return what ``heads_of`` does, of a block's own inputs."""
    return heads_of(block.attention, block.attention_norm(h), angles)
