"""How are rows of logits handed to a program? One program a row, in tiles of one width."""

from typing import Any

import triton  # pyright: ignore[reportMissingImports]
from jaxtyping import Float
from torch import Tensor

_NARROWEST, _WIDEST = 256, 4096  # logits of a tile
HOW: dict[str, Any] = {
    "num_warps": 8,
    "enable_fp_fusion": False,  # products and sums are rounded as they stand
}


def rowwise(logits: Float[Tensor, "*N V"]) -> Float[Tensor, "M V"]:
    """Return logits as rows whose entries lie side by side; copied only where they do not."""
    rows = logits.reshape(-1, logits.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def width(size: int) -> int:
    """Return the width of a tile: a power of two that hangs on the vocabulary alone."""
    return min(max(triton.next_power_of_2(size), _NARROWEST), _WIDEST)
