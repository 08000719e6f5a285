"""What was not chosen is noise again."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import SITE_REVISE, Chosen, Past, Reach, Revision, Sight
from unison.prob import rng
from unison.process import Uniform


@dataclass(frozen=True)
class Renoise:
    """Put a fresh uniform token on every position of the block that was not chosen.

    The renoising of DiffusionGemma (transformers' ``DiffusionGemmaForBlockDiffusion``), which
    chooses by the entropy bound of Ben-Hamu et al. (2025, arXiv:2505.24857). What a step chose
    counts for that step alone: the next one looks at the noise and chooses anew.
    """

    reads: ClassVar[Reach] = "block"
    rewrites: ClassVar[bool] = True
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("uniform",)

    def extra(self, length: int) -> int:
        """Return 0."""
        return 0

    def write(
        self,
        process: Uniform,
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the chosen candidates among fresh noise."""
        u = rng.uniform(sight.key, SITE_REVISE, past.best.shape[1]).gather(1, sight.positions)
        noise = torch.where(sight.active, process.prior(u), sight.current)
        tokens = torch.where(chosen, sight.candidate, noise)
        return Revision(tokens, torch.zeros_like(sight.due, dtype=torch.bool))
