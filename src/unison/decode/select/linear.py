"""Which share of the open positions does a step of an even time grid write?"""

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import Sight


def share(sight: Sight, eps: float) -> Float[Tensor, " B"]:
    """Return 1 - s/t of a block's present step from t to s, float64; 1 in the last.

    Args:
        sight: Knows each row's steps.
        eps: Where the even grid from 1 ends.
    """
    steps = sight.left + sight.block_step
    # t = 1 - (1 - eps) step / steps, both times the number of steps.
    fall = 1 - eps
    part = fall / (steps.double() - fall * sight.block_step.double())
    return torch.where(sight.left <= 1, 1.0, part)


def check(eps: float) -> None:
    """Raise ValueError where a grid cannot end at ``eps``."""
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), got {eps}.")
