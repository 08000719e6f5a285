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
