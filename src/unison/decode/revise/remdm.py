"""Written tokens are masked again at random, and others written in their place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import SITE_REVISE, Chosen, Past, Reach, Revision, Sight
from unison.prob import rng
from unison.process import Absorbing

Bound = Float[Tensor, "B 1"]
Rate = Float[Tensor, "B #F"]


@dataclass(frozen=True)
class ReMDM:
    r"""Mask written tokens of the block at rate sigma (Wang et al., 2025, arXiv:2503.00307).

    With alpha_t the share of the block that is written before the step and alpha_s the share
    with what the step chose,

        a written token is masked at rate sigma <= bound = min(1, (1 - alpha_s) / alpha_t),
        a mask that was not chosen is written at rate sigma alpha_t / (1 - alpha_s),

    so that on average alpha_s of the block is written, as without remasking; where the choice is
    uniform a mask is written at the rate of the paper, (alpha_s - (1 - sigma) alpha_t) /
    (1 - alpha_t). sigma by ``mode``:

        cap      min(eta, bound)
        rescale  eta bound
        conf     bound times a softmax of minus the confidence when written; no eta

    Attributes:
        mode: How sigma is found.
        eta: Rate of remasking, for ``cap`` and ``rescale``.
    """

    reads: ClassVar[Reach] = "block"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    mode: Literal["cap", "rescale", "conf"] = "cap"
    eta: float = 0.008

    def __post_init__(self) -> None:
        if self.mode not in _SIGMA:
            raise ValueError(f"mode must be one of {', '.join(_SIGMA)}, got {self.mode!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}.")

    def extra(self, length: int) -> int:
        """Return 0: the last step of a block leaves no mask."""
        return 0

    def write(
        self,
        process: Absorbing,
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the chosen candidates, some old tokens masked and some masks written besides."""
        written = sight.active & ~sight.open
        rest = sight.open & ~chosen
        masks = rest.sum(1, keepdim=True).double()
        bound = (masks / written.sum(1, keepdim=True).clamp(min=1)).clamp(max=1)
        said = past.confidence.gather(1, sight.positions)
        sigma = torch.where(written, _SIGMA[self.mode](self, bound, written, said), 0.0)
        besides = sigma.sum(1, keepdim=True) / masks.clamp(min=1)
        u = rng.uniform(sight.key, SITE_REVISE, past.best.shape[1]).gather(1, sight.positions)
        tokens = torch.where(chosen | rest & (u < besides), sight.candidate, sight.current)
        tokens = torch.where(u < sigma, process.mask_id, tokens)
        return Revision(tokens, torch.zeros_like(sight.due, dtype=torch.bool))


def _capped(remdm: ReMDM, bound: Bound, written: Chosen, said: Rate) -> Rate:
    return bound.clamp(max=remdm.eta)


def _rescaled(remdm: ReMDM, bound: Bound, written: Chosen, said: Rate) -> Rate:
    return remdm.eta * bound


def _by_confidence(remdm: ReMDM, bound: Bound, written: Chosen, said: Rate) -> Rate:
    share = torch.where(written, (-said).exp(), 0.0)
    total = share.sum(1, keepdim=True)
    return bound * share / torch.where(total > 0, total, 1.0)


_SIGMA: dict[str, Callable[[ReMDM, Bound, Chosen, Rate], Rate]] = {
    "cap": _capped,
    "rescale": _rescaled,
    "conf": _by_confidence,
}
