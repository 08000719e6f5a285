"""How do quantised weights lie in memory? In the order in which a product reads them.

Sixteen rows are read side by side, one in each lane of a vector, group after group: first the 16
scales (and minima), then the levels, 16 bytes for each column of the group. With 4 bits a byte
holds column k of each 32 below and column k + 16 above.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from unison.engine.quantised.grid import GROUP, Bits, Grid

LANES = 16
HEADER = {4: 4 * LANES, 8: 2 * LANES}  # bytes of scales and minima
LEVELS = {4: LANES * GROUP // 2, 8: LANES * GROUP}  # bytes of the levels of 32 columns

Packed = UInt8[Tensor, "blocks groups bytes"]


def packed(grid: Grid) -> Packed:
    """Return the rows in blocks of 16; the last block is filled with rows of zeros."""
    scales = [_lanes(grid.scale).half().view(torch.uint8)]
    if grid.minimum is None:
        levels = _lanes(grid.levels.to(torch.int8)).view(torch.uint8)
    else:
        scales.append(_lanes(grid.minimum).half().view(torch.uint8))
        each = _lanes(grid.levels.to(torch.uint8)).unflatten(2, (-1, GROUP))
        low, high = each.chunk(2, dim=3)
        levels = low | (high << 4)
    return torch.cat([*scales, levels.flatten(2)], dim=2)


def _lanes(values: Tensor) -> Tensor:
    """Return [blocks, G, ..., 16] of [N, G, ...]."""
    missing = -len(values) % LANES
    filled = torch.cat([values, values.new_zeros(missing, *values.shape[1:])])
    return filled.unflatten(0, (-1, LANES)).movedim(1, -1).contiguous()


def span(weights: Packed, bits: Bits) -> int:
    """Return how often 32 weights a group is."""
    return (weights.shape[2] - HEADER[bits]) // LEVELS[bits]


def width(weights: Packed, bits: Bits) -> int:
    """Return how many weights a row has."""
    return weights.shape[1] * span(weights, bits) * GROUP


def dense(weights: Packed, bits: Bits) -> Float[Tensor, "N K"]:
    """Return the weights of some blocks, float32, 16 rows a block."""
    header = weights[..., : HEADER[bits]].contiguous().view(torch.half).float()
    scale = header[..., None, :LANES]
    parts = (span(weights, bits), -1, LANES)
    levels = _levels(weights[..., HEADER[bits] :].unflatten(-1, parts), bits).flatten(2, 3)
    values = scale * levels if bits == 8 else scale * levels + header[..., None, LANES:]
    return values.movedim(3, 1).flatten(0, 1).flatten(1)


def rows(weights: Packed, bits: Bits, which: Int[Tensor, "*P"]) -> Float[Tensor, "*P K"]:
    """Return a few rows, float32."""
    block, lane = which.flatten() // LANES, which.flatten() % LANES
    header = weights[..., : HEADER[bits]].view(torch.half).unflatten(-1, (-1, LANES))
    # Ranges between two index tensors put the indexed dimension first: [P, G, ...].
    scale = header[block, :, :, lane].float()
    parts = (span(weights, bits), -1, LANES)
    bytes_ = weights[..., HEADER[bits] :].unflatten(-1, parts)[block, ..., lane]
    levels = _levels(bytes_[..., None], bits)[..., 0].flatten(2)
    values = scale[..., :1] * levels
    values = values if bits == 8 else values + scale[..., 1:]
    return values.flatten(1).unflatten(0, which.shape)


def _levels(stored: Tensor, bits: Bits) -> Tensor:
    """Return levels [..., 32, lanes] of bytes [..., 16 or 32, lanes]."""
    if bits == 8:
        return stored.view(torch.int8)
    return torch.cat([stored & 15, stored >> 4], dim=-2)
