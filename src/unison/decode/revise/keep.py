"""What is written stays written."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode.sight import Chosen, Past, Reach, Revision, Sight
from unison.process import Absorbing, Uniform


@dataclass(frozen=True)
class Keep:
    """Write the chosen candidates and touch nothing else."""

    reads: ClassVar[Reach] = "open"
    rewrites: ClassVar[bool] = False
    shadows: ClassVar[bool] = False
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")

    def extra(self, length: int) -> int:
        """Return 0."""
        return 0

    def write(
        self,
        process: Absorbing | Uniform,
        sight: Sight,
        chosen: Chosen,
        past: Past,
        shadow: Float[Tensor, "B F V"] | None,
    ) -> Revision:
        """Return the chosen candidates among what stood there."""
        tokens = torch.where(chosen, sight.candidate, sight.current)
        return Revision(tokens, torch.zeros_like(sight.due, dtype=torch.bool))
