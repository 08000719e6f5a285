"""Which tensors of a checkpoint are stored as levels of a grid, and how are those found?"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from unison.engine.quantised import grid
from unison.engine.quantised.grid import Bits, Grid
from unison.models.formats import levels
from unison.models.formats.writing import Pack


def packing(bits: Literal["exact", 4, 8] = "exact") -> Pack:
    """Return what turns a tensor into the parts it is stored as, or ``None`` for as it is.

    Matrices whose rows are whole groups of 32 become levels; everything else stays. With "exact"
    only those that lie on a grid do, on the smallest that holds them, so that nothing changes.
    """
    sizes: tuple[Bits, ...] = (4, 8) if bits == "exact" else (bits,)

    def pack(tensor: Tensor) -> Mapping[str, Tensor] | None:
        if tensor.ndim != 2 or tensor.shape[1] % grid.GROUP or not tensor.is_floating_point():
            return None
        for size in sizes:
            fitted = grid.nearest(tensor.float(), size)
            if bits != "exact" or bool(fitted.exact.all()):
                return _parts(fitted)
        return None

    return pack


def _parts(fitted: Grid) -> Mapping[str, Tensor]:
    if fitted.minimum is None:
        return {
            levels.LEVELS: fitted.levels.to(torch.int8).flatten(1),
            levels.SCALE: fitted.scale.half(),
        }
    return {
        levels.LEVELS: levels.paired(fitted.levels),
        levels.SCALE: fitted.scale.half(),
        levels.MINIMUM: fitted.minimum.half(),
    }
