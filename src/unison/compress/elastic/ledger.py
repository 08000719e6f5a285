"""How well has each network done so far? Sums of losses beside the weights, saved with them."""

import numpy as np
import torch
from torch import Tensor, nn

from unison.compress.elastic.curve import Values


class Ledger(nn.Module):
    """What each network's loss was above the largest one's, on the same text and noise.

    A loss has half the weight after ``half`` later ones of the same network. What a step adds takes
    part from the next step on, so all of its micro-batches draw alike. It is a network without a
    function so that checkpoints hold it.

    Args:
        count: Networks.
        half: Losses of a network after which an earlier one counts half.
    """

    def __init__(self, count: int, half: float = 10.0) -> None:
        super().__init__()
        self.decay = 0.5 ** (1 / half)
        self.kept = nn.Parameter(torch.zeros(2, count, dtype=torch.float64), requires_grad=False)
        self.fresh = nn.Parameter(torch.zeros(2, count, dtype=torch.float64), requires_grad=False)

    def note(self, number: int, excess: Tensor, count: Tensor) -> None:
        """Add what a network's loss was above the largest one's: a sum over positions."""
        self.fresh[0, number] += excess.detach().double().to(self.fresh.device)
        self.fresh[1, number] += count.double().to(self.fresh.device)

    def settle(self) -> None:
        """Take in what the last step added."""
        seen = self.fresh[1] > 0
        mean = self.fresh[0] / self.fresh[1].clamp(min=1)
        finite = seen & mean.isfinite()
        decayed = self.decay * self.kept + torch.stack([mean, torch.ones_like(mean)])
        self.kept.copy_(torch.where(finite, decayed, self.kept))
        self.fresh.zero_()

    def losses(self) -> tuple[Values, Values]:
        """Return the mean of each network, nats per token, and its weight; 0 where unknown."""
        total, weight = self.kept.detach().cpu().numpy()
        return np.where(weight > 0, total / np.where(weight > 0, weight, 1), 0.0), weight
