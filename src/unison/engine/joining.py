"""How do the denoisers of several batches become that of one batch?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from unison.decode.constrained import ConstrainedDenoiser
from unison.decode.guidance import Wrapped
from unison.denoising import RowDenoiser
from unison.engine.denoiser import CachedDenoiser
from unison.types import Denoiser, Mask, Tokens


def joins(denoise: Denoiser) -> bool:
    """Return whether a denoiser can be joined with others of its kind."""
    if isinstance(denoise, Wrapped):
        return all(joins(part) for part in denoise.parts)
    if isinstance(denoise, ConstrainedDenoiser):
        return joins(denoise.denoise)
    return isinstance(denoise, RowDenoiser | CachedDenoiser)


def joined(parts: Sequence[Denoiser], canvases: Sequence[Tokens], length: int) -> Denoiser:
    """Return the denoiser of all rows, those of the first batch first.

    Args:
        parts: Denoisers made alike, of one network; each with what it remembers.
        canvases: What each batch would be asked about next.
        length: Of the batch they become; shorter ones are padded at the right.

    Raises:
        TypeError: They cannot be joined; see ``joins``.
    """
    first = parts[0]
    if isinstance(first, RowDenoiser):
        return replace(first, valid=_valid(parts, canvases, length))
    if isinstance(first, CachedDenoiser):
        some = cast(Sequence[CachedDenoiser], parts)
        return first.joined(some, canvases, _valid(parts, canvases, length), length)
    if isinstance(first, Wrapped):
        several = cast(Sequence[Wrapped], parts)
        columns = zip(*(part.parts for part in several), strict=True)
        inner = tuple(joined(column, canvases, length) for column in columns)
        instead = [part.instead for part in several]
        known = [_padded(one, length, -1) for one in instead if one is not None]
        return replace(first, parts=inner, instead=torch.cat(known) if known else None)
    if isinstance(first, ConstrainedDenoiser):
        bound = cast(Sequence[ConstrainedDenoiser], parts)
        inner = joined([part.denoise for part in bound], canvases, length)
        return replace(first, denoise=inner, rows=tuple(row for part in bound for row in part.rows))
    raise TypeError(f"a {type(first).__name__} cannot be joined with others.")


def _valid(parts: Sequence[Denoiser], canvases: Sequence[Tokens], length: int) -> Mask | None:
    """Return where the joined rows have text; ``None`` where none is shorter than the others."""
    masks = []
    for part, tokens in zip(parts, canvases, strict=True):
        own = cast(RowDenoiser, part).valid
        own = torch.ones_like(tokens, dtype=torch.bool) if own is None else own
        masks.append(_padded(own, length, False))
    whole = torch.cat(masks)
    padded = any(
        tokens.shape[1] < length or cast(RowDenoiser, part).valid is not None
        for part, tokens in zip(parts, canvases, strict=True)
    )
    return whole if padded else None


def _padded(part: Tensor, length: int, value: int) -> Tensor:
    return F.pad(part, (0, length - part.shape[1]), value=value)
