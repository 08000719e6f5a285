"""What does one evaluation look at, where it is not simply the whole canvas?"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.models.config import TransformerConfig


class KeyValues(NamedTuple):
    """What every layer remembers of every position; overwritten in place as positions are computed.

    Attributes:
        keys: One tensor per layer, rotated by position where the model rotates.
        values: One tensor per layer.
    """

    keys: tuple[Float[Tensor, "B H L E"], ...]
    values: tuple[Float[Tensor, "B H L E"], ...]


def remember(config: TransformerConfig, rows: int, length: int, like: Tensor) -> KeyValues:
    """Return room for ``length`` positions, on the device and in the dtype of ``like``."""
    shape = (rows, config.num_kv_heads, length, config.head_dim)
    return KeyValues(
        tuple(
            torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(config.depth)
        ),
        tuple(
            torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(config.depth)
        ),
    )


class View(NamedTuple):
    """Which positions are computed, seen and read; ``None`` everywhere means the plain forward.

    Positions are canvas positions, one row of numbers per batch row; a number may repeat.

    Attributes:
        read: Positions whose logits are wanted, in the order wanted.
        compute: Positions that pass through the network; the others take part through ``memory``
            alone. Must include every position whose output the answers at ``read`` come from.
        memory: Keys and values of the whole canvas; entries at ``compute`` are overwritten.
        positions: Place of each input, where inputs are not simply positions 0, 1, 2 ...
        mask: True where an input (row) may see another (column), instead of the configured rule.
        block: First position of the active block and one past its last, for networks that treat
            what stands before it differently.
        known: Positions an earlier belief speaks of; ``None`` for all.
    """

    read: Int[Tensor, "B F"] | None = None
    compute: Int[Tensor, "B M"] | None = None
    memory: KeyValues | None = None
    positions: Int[Tensor, "B N"] | None = None
    mask: Bool[Tensor, "B N N"] | None = None
    block: Int[Tensor, "B 2"] | None = None
    known: Int[Tensor, "B F"] | None = None
