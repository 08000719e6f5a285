"""The highest-ranked positions of each row, a different number for each."""

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode.sight import Chosen, Score


def ranks(open_: Chosen, score: Score) -> Int[Tensor, "B F"]:
    """Return each position's rank from 0 by falling score; equal scores in canvas order.

    Positions that are not open come after all others.
    """
    falling = torch.where(open_, -score.double(), torch.inf)
    return falling.argsort(dim=1, stable=True).argsort(dim=1)


def best(open_: Chosen, score: Score, count: Int[Tensor, " B"]) -> Chosen:
    """Return the ``count`` highest-ranked open positions of each row."""
    return open_ & (ranks(open_, score) < count[:, None])


def first(open_: Chosen, score: Score) -> Chosen:
    """Return the highest-ranked open position of each row."""
    return open_ & (ranks(open_, score) == 0)


def prefix(open_: Chosen, rank: Int[Tensor, "B F"], passes: Chosen) -> Chosen:
    """Return the open positions that rank before the first one that fails, and the first of all.

    Args:
        open_: Where a token may be written.
        rank: Each open position's rank, from 0.
        passes: Which positions do not fail.
    """
    beyond = torch.iinfo(rank.dtype).max
    failing = torch.where(open_ & ~passes & (rank > 0), rank, beyond).amin(1)
    return open_ & (rank < failing[:, None])
