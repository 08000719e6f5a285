"""Who sees whom, who is computed and who is read? A view turned into tensors."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.models.config import TransformerConfig
from unison.models.layers import Hidden, LayerMemory
from unison.models.view import View
from unison.types import Mask


def at(values: Tensor, where: Int[Tensor, "B F"]) -> Tensor:
    """Return [B, F, ...] entries of [B, L, ...] or of [L]."""
    if values.ndim == 1:
        return values[where]
    spread = where.reshape(*where.shape, *[1] * (values.ndim - 2))
    return values.gather(1, spread.expand(*where.shape, *values.shape[2:]))


def mask(
    config: TransformerConfig, place: Tensor, valid: Mask | None, view: View
) -> Bool[Tensor, "#B 1 M N"] | None:
    """Return who may look at whom, or None where attention needs no explicit mask.

    Args:
        config: Says the rule.
        place: Place of every input, [L] or [B, L].
        valid: False at padding, which nobody sees.
        view: May hold the mask itself, and says whose rows of it are wanted.
    """
    rearranged = any(part is not None for part in (valid, view.mask, view.compute, view.positions))
    if config.attention == "causal" and not rearranged:
        return None  # attention knows this rule by itself
    seen = _seen(config, place, view)
    if valid is None:
        return None if seen is None else seen.reshape(-1, 1, *seen.shape[-2:])
    index = torch.arange(place.shape[-1], device=place.device)
    rows = index if view.compute is None else view.compute
    known = valid[:, None, :] if seen is None else valid[:, None, :] & seen
    # A padded query would have no key at all and answer NaN: let it see itself.
    return (known | (rows[..., :, None] == index))[:, None]


def _seen(config: TransformerConfig, place: Tensor, view: View) -> Tensor | None:
    """Return [M, L] or [B, M, L], padding aside; None where all see all."""
    if view.mask is not None:
        return view.mask if view.compute is None else at(view.mask, view.compute)
    if config.attention == "bidirectional":
        return None
    rank = place // (config.block_length or 1)
    asking = rank if view.compute is None else at(rank, view.compute)
    return asking[..., :, None] >= rank[..., None, :]


def rule(
    config: TransformerConfig, place: Tensor, valid: Mask | None, view: View
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return ``mask`` as a function of single positions: may, in a row, a query look at a key?

    Kernels that never hold the whole mask ask it position by position. Row, query and key are
    numbers of any shapes that broadcast. The same law as ``mask`` of a view that computes all.
    """

    def seen(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if view.mask is not None:
            return view.mask[row, query, key]
        if config.attention == "bidirectional":
            return (query >= 0) & (key >= 0)
        length = config.block_length or 1
        if place.ndim == 1:
            return place[query] // length >= place[key] // length
        return place[row, query] // length >= place[row, key] // length

    def known(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if valid is None:
            return seen(row, query, key)
        return (valid[row, key] & seen(row, query, key)) | (query == key)

    return known


def memory(view: View, layer: int, length: int) -> LayerMemory | None:
    """Return what one layer remembers of the inputs.

    Raises:
        ValueError: Some inputs alone are computed and there is no memory of the others.
    """
    if view.memory is None:
        if view.compute is not None:
            raise ValueError(
                "view.compute names the inputs to compute and view.memory is missing: the others "
                "would take no part. Give unison.models.remember(...)."
            )
        return None
    keys, values = view.memory.keys[layer], view.memory.values[layer]
    return LayerMemory(keys[:, :, :length], values[:, :, :length], view.compute)


def outputs(h: Hidden, length: int, shifted: bool, view: View) -> Tensor:
    """Return the outputs that answer at the positions read, or at all that were computed."""
    read = view.compute if view.read is None else view.read
    if read is None:
        return torch.cat([h[:, :1], h[:, :-1]], dim=1) if shifted else h
    source = (read - 1).clamp(min=0) if shifted else read
    if view.compute is None:
        return at(h, source)
    number = torch.arange(h.shape[1], device=h.device).expand_as(view.compute)
    row = torch.zeros(len(h), length, dtype=torch.long, device=h.device)
    return at(h, row.scatter(1, view.compute, number).gather(1, source))
