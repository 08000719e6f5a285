"""Plain autoregressive sampling: decide the leftmost open position of every row."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode.api import SITE_TARGET, Canvas, StepInfo
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Sequential
from unison.types import Denoiser, Focus, Law


@dataclass(frozen=True)
class LeftToRight:
    """Draw one token per row and step from p(x_i | x_<i) (Radford et al., 2019).

    Published as ancestral sampling of a causal model, for example in arXiv:2005.14165.

    Law: the autoregressive model's own. Given positions right of an open one are kept, but the
    model does not see them when it fills the gap.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("sequential",)

    def budget(self, length: int) -> int:
        """Return the number of positions."""
        return length

    def step(
        self, process: Sequential, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Write the leftmost open position of each row."""
        xt = canvas.tokens
        undecided = ~process.settled(xt) & ~canvas.given
        position = undecided.long().argmax(1, keepdim=True)
        focus = Focus(position, torch.cat([position, position + 1], dim=1))
        time = torch.ones(xt.shape[:1], dtype=torch.float64, device=xt.device)
        log_x0 = denoise(xt, time, focus)[:, 0]
        token = categorical.sample(log_x0, rng.uniform(key, SITE_TARGET, 1)[:, 0])
        xs = torch.where(undecided & _at(position, xt), token[:, None], xt)
        return canvas._replace(tokens=xs), StepInfo(xs != xt, undecided.sum(1) <= 1)


def _at(position: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(like.shape[1], device=like.device) == position
