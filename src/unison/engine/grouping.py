"""Which rows pass through the network together, and how do they take their memory along?"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unison.denoising import ROWS_ON_GPU
from unison.models import KeyValues
from unison.types import Belief

_STRIDE = 64  # on a GPU the positions computed are filled up to a multiple of this


class Group(NamedTuple):
    """Rows that pass through the network together.

    Attributes:
        rows: Their numbers; a short group is filled up with its first row.
        length: Canvas positions that take part.
        width: Positions computed of each row; ``None`` for all.
    """

    rows: Sequence[int]
    length: int
    width: int | None


def alone(computed: Sequence[int], lengths: Sequence[int]) -> list[Group]:
    """Return every row by itself, at its own length: for a CPU, which one row fills."""
    return [
        Group((row,), length, None if count == length else max(count, 1))
        for row, (count, length) in enumerate(zip(computed, lengths, strict=True))
    ]


def alike(computed: Sequence[int], lengths: Sequence[int], canvas: int) -> list[Group]:
    """Return groups of one size whose rows compute about as many positions: for a GPU.

    What shapes a row's matrices have depends on the row alone, so that a row does not see its
    batch.

    Args:
        computed: Positions to compute of each row.
        lengths: Positions each row has.
        canvas: Positions of the canvas.
    """
    by_width: dict[int | None, list[int]] = {}
    for row, (count, length) in enumerate(zip(computed, lengths, strict=True)):
        filled = min(-(-max(count, 1) // _STRIDE) * _STRIDE, canvas)
        by_width.setdefault(None if count == length else filled, []).append(row)
    groups = []
    for width, rows in by_width.items():
        for first in range(0, len(rows), ROWS_ON_GPU):
            some = rows[first : first + ROWS_ON_GPU]
            some += some[:1] * (ROWS_ON_GPU - len(some))
            groups.append(Group(some, canvas, width))
    return groups


def in_order(answers: Sequence[Tensor], groups: Sequence[Group]) -> Belief:
    """Return the rows' answers in the order of their numbers."""
    rows = [row for group in groups for row in group.rows]
    together = torch.cat(list(answers))
    if rows == list(range(len(rows))):
        return together
    place = [rows.index(row) for row in range(max(rows) + 1)]
    return together[torch.tensor(place, device=together.device)]


def borrowed(memory: KeyValues, rows: Sequence[int]) -> KeyValues:
    """Return what is remembered of some rows: in place if they are neighbours, else a copy."""
    if _neighbours(rows):
        return KeyValues(
            *(tuple(part.narrow(0, rows[0], len(rows)) for part in parts) for parts in memory)
        )
    index = torch.tensor(rows, device=memory.keys[0].device)
    return KeyValues(*(tuple(part[index] for part in parts) for parts in memory))


def give_back(memory: KeyValues, part: KeyValues, rows: Sequence[int]) -> None:
    """Write the rows that were borrowed as a copy into the memory."""
    if _neighbours(rows):
        return
    index = torch.tensor(rows, device=memory.keys[0].device)
    for whole, some in zip((*memory.keys, *memory.values), (*part.keys, *part.values), strict=True):
        whole.index_copy_(0, index, some)


def _neighbours(rows: Sequence[int]) -> bool:
    return list(rows) == list(range(rows[0], rows[0] + len(rows)))


def gathered(stale: Tensor, width: int) -> Tensor:
    """Return the marked positions of each row in canvas order, the first one repeated."""
    order = (~stale).long().argsort(dim=1, stable=True)[:, :width]
    return torch.where(stale.gather(1, order), order, order[:, :1])
