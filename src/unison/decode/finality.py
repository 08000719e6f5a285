"""How much of a text that is being written will never change again?"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode import blocks
from unison.decode.api import Canvas, Strategy
from unison.decode.autoregressive import LeftToRight
from unison.decode.diffusion.ancestral import Ancestral
from unison.decode.diffusion.composed import Composed
from unison.decode.diffusion.edlm import Edlm
from unison.decode.diffusion.euler import Euler
from unison.decode.diffusion.extrapolated_hitting import ExtrapolatedHitting
from unison.decode.diffusion.first_hitting import FirstHitting
from unison.decode.diffusion.greedy_tail import GreedyTail
from unison.decode.diffusion.parallel_hitting import ParallelHitting
from unison.decode.jointly import Jointly
from unison.process import Absorbing, Sequential

# Under a process with masks these write each position once.
_WRITE_ONCE = (
    Ancestral,
    Edlm,
    Euler,
    ExtrapolatedHitting,
    FirstHitting,
    GreedyTail,
    LeftToRight,
    ParallelHitting,
)


def settled(strategy: Strategy, process: Any, canvas: Canvas) -> Int[Tensor, " B"]:
    """Return how many positions of each row, from the left, no further step will change.

    A lower bound: what a strategy may still rewrite does not count, nor does anything of one that
    is not known to leave its text alone. Padding does not count.

    Args:
        strategy: Writes.
        process: Says what is decided.
        canvas: After a step, with the strategy's memory.
    """
    inner = strategy.strategy if isinstance(strategy, Jointly) else strategy
    kept = canvas.given
    if isinstance(inner, Composed):
        kept = kept | _composed(inner, process, canvas)
    elif isinstance(inner, _WRITE_ONCE) and isinstance(process, Absorbing | Sequential):
        kept = kept | process.settled(canvas.tokens)
    if canvas.valid is not None:
        kept = kept & canvas.valid
    return kept.long().cumprod(1).sum(1)


def _composed(strategy: Composed, process: Any, canvas: Canvas) -> Tensor:
    """Return the positions a composed strategy is done with."""
    if isinstance(process, Absorbing) and not strategy.revise.rewrites:
        return process.settled(canvas.tokens)
    if canvas.memory is None or strategy.revise.reads == "canvas":
        return torch.zeros_like(canvas.given)
    block = blocks.numbered(canvas, strategy.block_length, strategy.anchor)
    return block < canvas.memory.active[:, None]
