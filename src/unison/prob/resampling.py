"""Which weighted particles live on?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def effective(log_weights: Float[Tensor, "G M"]) -> Float[Tensor, " G"]:
    """Return the effective number of particles of each group, 1 / sum of squared shares."""
    return 1 / log_weights.double().softmax(1).square().sum(1)


def systematic(
    log_weights: Float[Tensor, "G M"], uniform: Float[Tensor, " G"], count: int | None = None
) -> Int[Tensor, "G K"]:
    """Return the numbers of the particles that are kept, non-decreasing along a group.

    A particle of share w is kept floor(w K) or ceil(w K) times, w K times in the mean
    (Kitagawa, 1996, doi 10.2307/1390750).

    Args:
        log_weights: Unnormalised, of M particles in each of G groups.
        uniform: One uniform on (0, 1) for each group.
        count: How many are kept; as many as there are if ``None``.
    """
    shares = log_weights.double().softmax(1).cumsum(1)
    kept = log_weights.shape[1] if count is None else count
    comb = (torch.arange(kept, device=uniform.device) + uniform.double()[:, None]) / kept
    return torch.searchsorted(shares, comb).clamp(max=log_weights.shape[1] - 1)
