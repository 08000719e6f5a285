"""First-hitting sampling: jump from one unmasking event of continuous time to the next."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode import grid
from unison.decode.api import SITE_EXTRA, SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser, Law


@dataclass(frozen=True)
class FirstHitting:
    """Write one token per row and step, at the time it would be written (arXiv:2409.02908).

    With n masks left the next one is unmasked at the time t' where

        1 - alpha(t') = (1 - alpha(t)) u^(1/n),    u ~ U(0, 1),

    at a uniformly chosen masked position, with a token drawn from the belief at t'
    (Zheng et al., 2024). As many evaluations as there are holes.

    Law: the reverse process in continuous time, without discretisation error.

    Differs: any schedule (t' is found by bisection); rows have their own time.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)

    def budget(self, length: int) -> int:
        """Return the number of positions."""
        return length

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Move every row to its next event and write that token.

        The canvas remembers 1 - alpha(t) of each row.
        """
        xt = canvas.tokens
        undecided = (xt == process.mask_id) & ~canvas.given
        left = undecided.sum(1)
        noise = 1 - grid.survival(process, 1.0, xt) if canvas.memory is None else canvas.memory
        # A finished row has n = 0 and is left alone, whatever is drawn for it.
        noise = noise * rng.uniform(key, SITE_JUMP, 1)[:, 0] ** (1 / left.clamp(min=1).double())
        log_x0 = denoise(xt, grid.time_of(process, 1 - noise))
        rank = (rng.uniform(key, SITE_EXTRA, 1)[:, 0] * left).long()
        chosen = undecided & (undecided.cumsum(1) == rank[:, None] + 1)
        position = chosen.long().argmax(1)[:, None, None]
        belief = log_x0.gather(1, position.expand(-1, -1, log_x0.shape[-1]))[:, 0]
        token = categorical.sample(belief, rng.uniform(key, SITE_TARGET, 1)[:, 0])
        xs = torch.where(chosen, token[:, None], xt)
        return canvas._replace(tokens=xs, memory=noise), StepInfo(xs != xt, left <= 1)
