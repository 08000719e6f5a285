"""How does attention leave out whole blocks of what may not be seen?

FlexAttention (Dong et al., 2024, arXiv:2412.05496): who may look at whom is a function of
positions. Blocks of keys that no query of a block may see are skipped, and no mask of all pairs
is read. For block-causal and ragged canvases of a GPU; ``scaled_dot_product_attention`` stays the
reference, and the way on a CPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unison.models import sight
from unison.models.config import TransformerConfig
from unison.models.layers import Seen
from unison.models.transformer import Transformer
from unison.models.view import View
from unison.types import Mask

BLOCK = 128  # positions of a block, of queries and of keys


class Flex(NamedTuple):
    """Attention under one mask.

    Attributes:
        blocks: The ``BlockMask``.
    """

    blocks: Any

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return what every query finds among the values."""
        attend = _kernel() if queries.is_cuda and not torch.compiler.is_compiling() else _plain()
        grouped = queries.shape[1] != keys.shape[1]
        return attend(queries, keys, values, block_mask=self.blocks, enable_gqa=grouped)


def flexible(network: Transformer) -> Transformer:
    """Let a network attend by FlexAttention from now on, where that leaves anything out.

    Its answers are those it had, to rounding. On a CPU this is slow, and no gradient flows.
    """
    network.masks = mask
    return network


def mask(config: TransformerConfig, place: Tensor, valid: Mask | None, view: View) -> Seen:
    """Return how the inputs attend; arguments as of ``sight.mask``.

    Where attention needs no mask, and where a few inputs look at a memory, as ``sight.mask`` has
    it: there is nothing to skip.
    """
    ordered = config.attention == "causal" and view.positions is None
    free = valid is None and view.mask is None
    if view.compute is not None or (free and (ordered or config.attention == "bidirectional")):
        return sight.mask(config, place, valid, view)
    known = sight.rule(config, place, valid, view)
    length = place.shape[-1]
    return Flex(_blocks(known, _rows(place, valid, view), length, place.device))


def _rows(place: Tensor, valid: Mask | None, view: View) -> int | None:
    """Return how many rows have masks of their own; ``None`` if all have the same."""
    parts = (valid, view.mask, place if place.ndim == 2 else None)
    return next((len(part) for part in parts if part is not None), None)


def _blocks(
    known: Callable[[Tensor, Tensor, Tensor], Tensor],
    rows: int | None,
    length: int,
    device: torch.device,
) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(
        lambda row, head, query, key: known(row, query, key),
        rows,
        None,
        length,
        length,
        device=str(device),
        BLOCK_SIZE=BLOCK,
    )


def _plain() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention  # pyright: ignore[reportReturnType]


@cache
def _kernel() -> Callable[..., Tensor]:
    """Return the fused kernel, one for all masks."""
    return torch.compile(_plain(), fullgraph=True)
