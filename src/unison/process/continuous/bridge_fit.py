"""Which bridge joins two sets of samples? The one of least loss, by gradient descent."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unison.prob import rng
from unison.prob.rng import Key
from unison.process.continuous.bridge import LightBridge, light_loss

SITE_FIRST, SITE_SECOND, SITE_CENTRES = 0x7FFFFD17, 0x7FFFFD18, 0x7FFFFD19


@dataclass(frozen=True)
class BridgeFit:
    """How a bridge is fitted (LightSB, arXiv:2310.01174, appendix: Adam, shapes of 0.1 at first).

    Attributes:
        components: K.
        epsilon: Variance of the reference's noise.
        steps: Updates.
        batch: Samples of either set in an update.
        rate: Adam's.
        shape: Every S_k at first, a multiple of the identity.
        diagonal: Whether the S_k stay diagonal.
    """

    components: int = 10
    epsilon: float = 0.1
    steps: int = 1000
    batch: int = 256
    rate: float = 0.01
    shape: float = 0.1
    diagonal: bool = True

    def __post_init__(self) -> None:
        if min(self.components, self.steps, self.batch) < 1:
            raise ValueError(
                "components, steps and batch must be at least 1, got "
                f"{self.components}, {self.steps} and {self.batch}."
            )
        if not min(self.epsilon, self.rate, self.shape) > 0:
            raise ValueError(
                "epsilon, rate and shape must be above 0, got "
                f"{self.epsilon}, {self.rate} and {self.shape}."
            )


def fit_bridge(
    first: Float[Tensor, "N D"], second: Float[Tensor, "M D"], fit: BridgeFit, seed: int = 0
) -> LightBridge:
    """Return the bridge from the first set to the second.

    Args:
        first: Samples of the law at t=0.
        second: Samples of the law at t=1, of any number.
        fit: How.
        seed: Names the draws.
    """
    key = Key(torch.tensor([seed]))
    chosen = _some(second, key, SITE_CENTRES, fit.components)
    centres = (chosen - fit.shape * first.mean(0)).requires_grad_()
    log_weights = torch.zeros(fit.components, dtype=first.dtype, requires_grad=True)
    roots = torch.full((fit.components, first.shape[1]), fit.shape, dtype=first.dtype).log() / 2
    raw = torch.diag_embed(roots).requires_grad_()
    optimiser = torch.optim.Adam([log_weights, centres, raw], lr=fit.rate)
    for step in range(fit.steps):
        now = Key(key.seed, step)
        optimiser.zero_grad()
        loss = light_loss(
            LightBridge(log_weights, centres, _shapes(raw, fit.diagonal), fit.epsilon),
            _some(first, now, SITE_FIRST, fit.batch),
            _some(second, now, SITE_SECOND, fit.batch),
        )
        loss.backward()
        optimiser.step()
    shapes = _shapes(raw, fit.diagonal).detach()
    return LightBridge(log_weights.detach(), centres.detach(), shapes, fit.epsilon)


def _some(points: Tensor, key: Key, site: int, count: int) -> Tensor:
    """Return some of the points; any may come more than once."""
    index = (rng.uniform(key, site, count)[0] * len(points)).long()
    return points[index.clamp(max=len(points) - 1)]


def _shapes(raw: Tensor, diagonal: bool) -> Tensor:
    """Return L L^T: the logarithm of L's diagonal is stored, and what is below it."""
    root = torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp())
    return root.square() if diagonal else _squared(root + raw.tril(-1))


def _squared(root: Tensor) -> Tensor:
    return root @ root.mT
