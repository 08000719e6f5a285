"""What lies between the ends of a U-Net? Levels down, a middle, levels up; on lines or planes."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unison.models.continuous.parts import CONV, Cond, Field, PlaceAttention, ResidualBlock


class Layout(NamedTuple):
    """The shape of a body.

    Attributes:
        width: Channels of the outermost level.
        multipliers: Width of each level over ``width``.
        blocks: Residual blocks of each level, on either side.
        attention: Levels with attention.
        cond: Width of the condition.
        dimensions: 1 for lines, 2 for planes.
        dropout: Inside residual blocks.
        stride: By how much every level but the last shortens the sides.
    """

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    cond: int
    dimensions: int
    dropout: float
    stride: int = 2


class Stage(nn.Module):
    """A residual block, with attention where the level has it."""

    def __init__(self, into: int, out: int, layout: Layout, attention: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(into, out, layout.cond, layout.dimensions, layout.dropout)
        self.attention = PlaceAttention(out) if attention else None

    def forward(self, h: Field, cond: Cond) -> Tensor:
        """Return the features after the stage."""
        h = self.block(h, cond)
        return h if self.attention is None else self.attention(h)


class Down(nn.Module):
    """One level on the way in."""

    def __init__(self, into: int, out: int, layout: Layout, attention: bool, last: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(out if i else into, out, layout, attention) for i in range(layout.blocks)
        )
        kernel, stride = layout.stride + 1, layout.stride
        conv = CONV[layout.dimensions]
        self.shorten = None if last else conv(out, out, kernel, stride, padding=kernel // 2)

    def forward(self, h: Field, cond: Cond) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the next level gets, and what the way out will read."""
        kept = []
        for stage in self.stages:
            h = stage(h, cond)
            kept.append(h)
        return (h if self.shorten is None else self.shorten(h)), tuple(kept)


class Middle(nn.Module):
    """The innermost level between the ways: every place sees every other."""

    def __init__(self, width: int, layout: Layout) -> None:
        super().__init__()
        self.first = Stage(width, width, layout, attention=True)
        self.second = Stage(width, width, layout, attention=False)

    def forward(self, h: Field, cond: Cond) -> Tensor:
        """Return the features the way out starts from."""
        return self.second(self.first(h, cond), cond)


class Up(nn.Module):
    """One level on the way out."""

    def __init__(self, width: int, out: int, layout: Layout, attention: bool, last: bool) -> None:
        super().__init__()
        self.stride = layout.stride
        self.stages = nn.ModuleList(
            Stage(2 * width, width, layout, attention) for _ in range(layout.blocks)
        )
        conv = CONV[layout.dimensions]
        self.lengthen = None if last else conv(width, out, 3, padding=1)

    def forward(self, h: Field, kept: tuple[Tensor, ...], cond: Cond) -> Tensor:
        """Return what the next level out gets."""
        for stage, skip in zip(self.stages, reversed(kept), strict=True):
            h = stage(torch.cat([h, skip], 1), cond)
        if self.lengthen is None:
            return h
        return self.lengthen(F.interpolate(h, scale_factor=float(self.stride), mode="nearest"))


class Body(nn.Module):
    """The levels, outermost first, and the middle."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        widths = [layout.width * times for times in layout.multipliers]
        count, before = len(widths), [layout.width, *widths]
        self.downs = nn.ModuleList(
            Down(before[i], widths[i], layout, i in layout.attention, i == count - 1)
            for i in range(count)
        )
        self.middle = Middle(widths[-1], layout)
        self.ups = nn.ModuleList(
            Up(widths[i], widths[i - 1] if i else widths[i], layout, i in layout.attention, i == 0)
            for i in range(count)
        )


def check_layout(name: str, multipliers: tuple[int, ...], attention: tuple[int, ...]) -> None:
    """Refuse levels that do not exist.

    Raises:
        ValueError: There are no levels, one has no width, or attention is on none of them.
    """
    if not multipliers or min(multipliers) < 1:
        raise ValueError(
            f"{name}.multipliers must be at least one number of at least 1, got {multipliers}."
        )
    strange = [level for level in attention if not 0 <= level < len(multipliers)]
    if strange:
        raise ValueError(
            f"{name}.attention names levels {strange}; there are 0 to {len(multipliers) - 1}."
        )
