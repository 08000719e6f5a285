"""Plain autoregressive sampling: decide the leftmost open position of every row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unison.decode.api import SITE_TARGET, Canvas, StepInfo
from unison.decode.jointly import weighed
from unison.decode.stop.ends import is_end
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Sequential
from unison.types import Denoiser, Focus, Law


@dataclass(frozen=True)
class LeftToRight:
    """Draw one token per row and step from p(x_i | x_<i) (Radford et al., 2019).

    Published as ancestral sampling of a causal model, for example in arXiv:2005.14165.

    Law: the autoregressive model's own. Given positions right of an open one are kept, but the
    model does not see them when it fills the gap. A row that stops at its end has the same law up
    to there.

    Attributes:
        eos_ids: Tokens that end a text; the model's own where empty.
        stop_at_end: Whether a row is done at its first end, where no given text follows; the rest
            of its canvas is then that end again.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("sequential",)

    eos_ids: tuple[int, ...] = ()
    stop_at_end: bool = False

    @property
    def apart(self) -> bool:
        """Whether rows may stand at different steps: they may."""
        return True

    def joined(self, process: Sequential, canvases: Sequence[Canvas]) -> None:
        """Return no memory: it has none."""

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
        log_x0 = weighed(denoise)(xt, time, focus)[:, 0]
        token = categorical.sample(log_x0, rng.uniform(key, SITE_TARGET, 1)[:, 0])
        ended = self._ended(token, position, canvas)
        written = undecided & (_at(position, xt) | ended[:, None])
        xs = torch.where(written, token[:, None], xt)
        sure = torch.zeros(xt.shape, device=xt.device)
        sure = sure.scatter(1, position, log_x0.gather(1, token[:, None]).exp())
        done = ended | (undecided.sum(1) <= 1)
        return canvas._replace(tokens=xs), StepInfo(xs != xt, done, confidence=sure)

    def _ended(
        self, token: Int[Tensor, " B"], position: Int[Tensor, "B 1"], canvas: Canvas
    ) -> Bool[Tensor, " B"]:
        """Return which rows are done because their text is."""
        if not self.stop_at_end:
            return torch.zeros_like(token, dtype=torch.bool)
        given = canvas.given if canvas.valid is None else canvas.given & canvas.valid
        follows = given & (torch.arange(given.shape[1], device=token.device) > position)
        return is_end(token, self.eos_ids) & ~follows.any(1)


def _at(position: Tensor, like: Tensor) -> Tensor:
    return torch.arange(like.shape[1], device=like.device) == position
