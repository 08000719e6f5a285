"""What do events look like? A sheet of small pictures, as a PNG file."""

import struct
import zlib

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unison.types import Event

_GAP = 1  # between pictures, in their own pixels
_SIDE = 96  # pictures are enlarged to about so many pixels
_PAPER = 255


def pictures_of(values: Event) -> Float[Tensor, "N C H W"]:
    """Return events as pictures of one or three channels, in [-1, 1].

    Images are themselves, four and more channels (a piano roll) one under another; sound is a line
    on a square; points of the plane are one picture of all of them.
    """
    values = values.detach().float().cpu()
    if values.ndim == 4:
        return values if values.shape[1] in (1, 3) else values.flatten(1, 2)[:, None]
    if values.ndim == 3:
        return torch.stack([_line(row[0]) for row in values])[:, None]
    if values.ndim == 2 and values.shape[1] >= 2:
        return _scattered(values[:, :2])[None, None]
    raise ValueError(f"events of shape {tuple(values.shape[1:])} cannot be drawn; save .npz.")


def sheet(values: Event, columns: int | None = None) -> bytes:
    """Return a PNG file of events in rows, the first ones at the top left.

    Args:
        values: Scaled events; -1 is black and 1 is white.
        columns: Pictures in a row; ``None`` for a square.

    Raises:
        ValueError: They are of no kind that can be drawn.
    """
    pictures = ((pictures_of(values).clamp(-1, 1) + 1) * 127.5).round().byte()
    factor = max(1, _SIDE // max(pictures.shape[2:]))
    pictures = pictures.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    wide = columns or max(1, round(len(pictures) ** 0.5))
    tall = -(-len(pictures) // wide)
    gap = _GAP * factor
    height, width = (side + gap for side in pictures.shape[2:])
    shape = (tall * height + gap, wide * width + gap, pictures.shape[1])
    page = torch.full(shape, _PAPER, dtype=torch.uint8)
    for i, picture in enumerate(pictures):
        top, left = gap + i // wide * height, gap + i % wide * width
        page[top : top + height - gap, left : left + width - gap] = picture.permute(1, 2, 0)
    return png(page)


def png(page: UInt8[Tensor, "H W C"]) -> bytes:
    """Return an 8-bit PNG file, grey or in colour."""
    height, width, channels = page.shape
    lines = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), page.flatten(1)], 1)
    colour = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = zlib.compress(lines.numpy().tobytes(), 9)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _line(wave: Float[Tensor, " T"]) -> Float[Tensor, "S S"]:
    """Return a wave's lowest and highest numbers, place by place, as a band."""
    parts = wave.tensor_split(min(_SIDE, len(wave)))
    middle = (_SIDE - 1) / 2
    scale = middle / max(1.0, wave.abs().max().item())
    rows = torch.arange(_SIDE)[:, None]
    low, high = (torch.stack([f(part) for part in parts]) * scale for f in (torch.min, torch.max))
    inside = (rows >= (middle - high).floor()) & (rows <= (middle - low).ceil())
    return torch.where(inside, 1.0, -1.0).repeat_interleave(max(1, _SIDE // len(parts)), 1)


def _scattered(points: Float[Tensor, "B 2"]) -> Float[Tensor, "S S"]:
    """Return how many points fall on each place of a square, the fullest white."""
    reach = points.abs().max().item() * 1.05 or 1.0
    places = ((points / reach + 1) / 2 * _SIDE).long().clamp(0, _SIDE - 1)
    flat = (_SIDE - 1 - places[:, 1]) * _SIDE + places[:, 0]
    counts = torch.bincount(flat, minlength=_SIDE**2).view(_SIDE, _SIDE).float()
    return counts / counts.max() * 2 - 1
