"""Copy me: what does this strategy do? One sentence, then rename the file and the class."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from unison.decode import grid
from unison.decode.api import SITE_TARGET, Canvas, StepInfo
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser, Law


@dataclass(frozen=True)
class Skeleton:
    """Say what is drawn and who published it (author, year, arXiv:0000.00000, equation).

    Law: what the output follows. EXACT and GREEDY need a ``test_<name>_follows...`` against an
    enumerated law in ``tests/law``; else declare BIASED.

    Attributes:
        share: Every field is an option of the command line, and this is its help.
    """

    law: ClassVar[Law] = Law.BIASED
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}.")

    def budget(self, length: int) -> int:
        """Return the largest number of steps; the last of them must leave no mask."""
        return 2

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Write the leading share of the canvas first, then the rest."""
        xt, length = canvas.tokens, canvas.tokens.shape[1]
        reach = length if key.step else round(self.share * length)
        write = (xt == process.mask_id) & (torch.arange(length, device=xt.device) < reach)
        log_x0 = denoise(xt, grid.per_row(1.0, xt))
        drawn = categorical.sample_where(log_x0, rng.uniform(key, SITE_TARGET, length), write)
        xs = torch.where(write, drawn, xt)
        done = (process.settled(xs) | canvas.given).all(1)
        return canvas._replace(tokens=xs), StepInfo(xs != xt, done)
