"""How do activations become bytes, and sums of their products activations again?

Each vector has a scale of its own, its largest entry over 127, found as it passes by: nothing is
calibrated, and no vector sees another. On a CPU with numba every map here is one pass of
``passes``; elsewhere torch makes the same steps, and the bytes are the same for the same numbers.
"""

import array
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Int8, Int32
from torch import Tensor
from torch.nn import functional as F

from unison.engine.quantised import kernel
from unison.engine.quantised.integers import MOST

Bend = Literal["gelu", "gated"]

_NOTHING = 2.0**-100  # a vector whose entries are all below this is read as zeros


class Bytes(NamedTuple):
    """Vectors as whole numbers, each with a scale: entry = level * scale."""

    levels: Int8[Tensor, "M K"]
    scale: Float32[Tensor, " M"]


class Columns(NamedTuple):
    """What the sums of a layer are multiplied with and what is added, one number a column."""

    scale: Float32[Tensor, " N"]
    bias: Float32[Tensor, " N"] | None


def rounded(x: Float32[Tensor, "M K"]) -> Bytes:
    """Return vectors as bytes; a vector that is not finite has a scale that is not."""
    x = x.contiguous()
    if not _native(x):
        return _rounded(x)
    made = _room(x, x.shape[1])
    told = (x.shape[1], x.data_ptr(), made.levels.data_ptr(), made.scale.data_ptr(), 0, 0, 0)
    _pass("rounded", told, len(x))
    return made


def finished(
    sums: Int32[Tensor, "M N"], scale: Float32[Tensor, " M"], columns: Columns
) -> Float32[Tensor, "M N"]:
    """Return what sums stand for, in their memory."""
    if not _native(sums):
        return sums.view(torch.float32).copy_(_finished(sums, scale, columns))
    told = (sums.shape[1], sums.data_ptr(), 0, 0, *_addresses(scale, columns))
    _pass("finished", told, len(sums))
    return sums.view(torch.float32)


def bent(
    sums: Int32[Tensor, "M N"], scale: Float32[Tensor, " M"], columns: Columns, bend: Bend
) -> Bytes:
    """Return what an MLP makes of the sums of its first map, as bytes; overwrites the sums.

    Args:
        sums: Of products of bytes.
        scale: Of the vectors that were multiplied.
        columns: Of the map.
        bend: ``gelu``, tanh form, of every number; or ``gated``: silu(first half) times second.
    """
    if not _native(sums):
        return _rounded(_bent(_finished(sums, scale, columns), bend))
    made = _room(sums, sums.shape[1] if bend == "gelu" else sums.shape[1] // 2)
    levels, out = made
    places = (sums.data_ptr(), levels.data_ptr(), out.data_ptr(), *_addresses(scale, columns))
    _pass(bend, (levels.shape[1], *places), len(sums))
    return made


def _native(vectors: Tensor) -> bool:
    return vectors.is_cpu and vectors.numel() > 0 and kernel.able()


def _pass(name: str, told: tuple[int, ...], vectors: int) -> None:
    from unison.engine.quantised import passes  # needs numba

    kernel.share(passes.compiled(name).address, array.array("q", told), vectors)


def _addresses(scale: Tensor, columns: Columns) -> tuple[int, int, int]:
    bias = 0 if columns.bias is None else columns.bias.data_ptr()
    return scale.data_ptr(), columns.scale.data_ptr(), bias


def _room(like: Tensor, width: int) -> Bytes:
    rows, place = len(like), like.device
    levels = torch.empty(rows, width, dtype=torch.int8, device=place)
    return Bytes(levels, torch.empty(rows, dtype=torch.float32, device=place))


def _rounded(x: Float[Tensor, "M K"]) -> Bytes:
    most = x.abs().amax(1) if x.numel() else x.new_zeros(len(x))
    nothing = most < _NOTHING
    factor = torch.where(nothing, 0.0, torch.full_like(most, MOST) / most)
    levels = (x * factor[:, None]).round().to(torch.int8)
    share = torch.tensor(1 / MOST, dtype=torch.float32, device=x.device)
    return Bytes(levels, torch.where(nothing, 0.0, most * share))


def _finished(sums: Tensor, scale: Tensor, columns: Columns) -> Tensor:
    y = sums.float() * (scale[:, None] * columns.scale)
    return y if columns.bias is None else y + columns.bias


def _bent(x: Tensor, bend: Bend) -> Tensor:
    if bend == "gelu":
        return F.gelu(x, approximate="tanh")
    gate, up = x.chunk(2, dim=1)
    return F.silu(gate) * up
