"""How is a law over many tokens read without moving it through memory once per operation?"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_ENTRIES = 2**18  # of a tile: its float32 temporaries fit into a core's cache


def tiled(read: Callable[..., Tensor], laws: Float[Tensor, "*N V"], *others: Tensor) -> Tensor:
    """Return ``read(laws, *others)``, worked out a few laws at a time on a CPU.

    There a chain of operations on [positions, vocabulary] spends its time on memory that each of
    them asks for anew. Every law is read by itself, so tiles change no number.

    Args:
        read: From laws [N, V], and a number for each, to a number for each.
        laws: One per position.
        others: One number per position each.
    """
    size = max(_ENTRIES // laws.shape[-1], 1)
    if laws.device.type != "cpu" or laws.numel() <= size * laws.shape[-1]:
        return read(laws, *others)
    flat = zip(
        laws.flatten(0, -2).split(size), *(x.flatten().split(size) for x in others), strict=True
    )
    return torch.cat([read(*tile) for tile in flat]).view(laws.shape[:-1])
