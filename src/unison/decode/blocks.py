"""Which part of each row is worked on, and which answers does that need?"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.decode.api import Canvas
from unison.types import Focus, Mask

Anchor = Literal["answer", "canvas"]


def numbered(canvas: Canvas, block_length: int | None, anchor: Anchor) -> Int[Tensor, "B L"]:
    """Return the number of the block each position belongs to.

    Args:
        canvas: Its own division, if it has one, goes first.
        block_length: Positions of a block; ``None`` for one block.
        anchor: Count from the first position that was not given, so that what stands before it
            belongs to no block of the answer, or from the canvas's first.
    """
    if canvas.block is not None:
        return canvas.block
    if block_length is None:
        return torch.zeros_like(canvas.tokens)
    place = torch.arange(canvas.tokens.shape[1], device=canvas.tokens.device)
    if anchor == "canvas":
        return (place // block_length).expand_as(canvas.tokens)
    first = (~canvas.given).long().argmax(1, keepdim=True)
    return torch.div(place - first, block_length, rounding_mode="floor")


class Division(NamedTuple):
    """How many blocks of each row hold text to write, and where the active one stands.

    Attributes:
        count: Blocks with positions that were not given.
        rank: How many of them come before the active one.
        size: Positions of the active one that were not given.
        bounds: First position of the active one and one past its last.
    """

    count: Int[Tensor, " B"]
    rank: Int[Tensor, " B"]
    size: Int[Tensor, " B"]
    bounds: Int[Tensor, "B 2"]


def division(block: Int[Tensor, "B L"], given: Mask, active: Int[Tensor, " B"]) -> Division:
    """Return where the active block of each row stands."""
    # Numbers never fall along a row: a block begins where an open position first shows it.
    ahead = torch.where(given, -1, block).cummax(1).values
    before = torch.cat([torch.full_like(ahead[:, :1], -1), ahead[:, :-1]], dim=1)
    begins = ~given & (block > before)
    inside = block == active[:, None]
    first = inside.long().argmax(1)
    return Division(
        begins.sum(1),
        (begins & (block < active[:, None])).sum(1),
        (inside & ~given).sum(1),
        torch.stack([first, first + inside.sum(1)], dim=1),
    )


def lowest(block: Int[Tensor, "B L"], where: Mask) -> Int[Tensor, " B"]:
    """Return the lowest block number among the marked positions of each row.

    A row without any gets a number beyond all blocks.
    """
    return torch.where(where, block, torch.iinfo(block.dtype).max).amin(1)


def width(wanted: Mask, bound: int) -> int:
    """Return how many positions of a row are looked at together.

    As many as the fullest row wants; on a GPU, where asking would wait for the device, the bound.
    """
    return bound if wanted.is_cuda else max(int(wanted.sum(1).amax()), 1)


class Gathered(NamedTuple):
    """The wanted positions of each row, side by side.

    Attributes:
        focus: The positions and the active block.
        live: False where a short row is filled up with its first wanted position.
    """

    focus: Focus
    live: Bool[Tensor, "B F"]

    def take(self, whole: Tensor) -> Tensor:
        """Return the values of a [batch, length] tensor at the positions."""
        return whole.gather(1, self.focus.positions)

    def put(self, whole: Tensor, part: Tensor) -> Tensor:
        """Return ``whole`` with the live positions replaced."""
        beyond = whole.shape[1]
        index = torch.where(self.live, self.focus.positions, beyond)
        room = torch.cat([whole, whole[:, :1]], dim=1)
        return room.scatter(1, index, part.to(whole.dtype))[:, :beyond]


def gathered(wanted: Mask, bounds: Int[Tensor, "B 2"], bound: int) -> Gathered:
    """Gather the wanted positions of each row in canvas order; a row must want at least one."""
    order = (~wanted).long().argsort(dim=1, stable=True)[:, : width(wanted, bound)]
    live = wanted.gather(1, order)
    return Gathered(Focus(torch.where(live, order, order[:, :1]), bounds), live)
