"""First-hitting sampling in groups, each drafted, judged and drawn again."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unison.decode import grid
from unison.decode.api import SITE_EXTRA, SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.decode.blocks import Gathered, gathered
from unison.decode.diffusion import events
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Belief, Denoiser, Focus, Law, Mask, Shadowing


class Draft(NamedTuple):
    """What is carried from step to step.

    Attributes:
        noise: 1 - alpha after the last event.
        positions: Of the group drafted last.
        live: False where a short row repeats a position.
        belief: What the tokens there were drawn from.
    """

    noise: Float[Tensor, " B"]
    positions: Int[Tensor, "B F"]
    live: Mask
    belief: Belief


@dataclass(frozen=True)
class CorrectedHitting:
    """Draft a group of tokens, then redraw it from an averaged belief (after arXiv:2409.02908).

    Two evaluations for a group of uniformly chosen positions. The predictor draws their tokens
    independently. The corrector asks for the belief at each of them given the others' drafts but
    not its own (a shadow, as in WINO, arXiv:2507.18578) and draws all of them again from the
    mean of both beliefs. A last position alone is not corrected. An experiment: Zheng et al.
    (2024) speak of a predictor-corrector; shadows and the mean are ours, no parity is claimed.

    A negative result: without shadows the second belief of a written position is the token
    itself, and redrawing from the mean changes no law. With them, and with the conditionals of
    one joint law, pairs come out as uncorrected pairs do, at twice the cost, since each redraw
    averages the other's draft away; larger groups gain little. ``parallel_hitting`` with as many
    evaluations is nearer to that law in every enumerated case.

    Law: that of ``first_hitting`` for groups of 1, and where beliefs do not hang on the canvas;
    else a heuristic. Needs a denoiser that casts shadows.

    Attributes:
        group: Tokens drafted together.
    """

    law: ClassVar[Law] = Law.BIASED
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    group: int = 2

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group must be at least 1, got {self.group}.")

    def budget(self, length: int) -> int:
        """Return two steps for each group."""
        return 2 * -(-length // self.group)

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draft in even steps, correct in odd ones.

        Raises:
            ValueError: The denoiser casts no shadows.
        """
        if not isinstance(denoise, Shadowing):
            raise ValueError(
                "CorrectedHitting judges tokens without seeing them, which this model, or its "
                "cache, cannot; use parallel_hitting, or cache 'none'."
            )
        if key.step % 2:
            return _corrected(process, denoise, canvas, key)
        return self._drafted(process, denoise, canvas, key)

    def _drafted(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        xt, draft = canvas.tokens, canvas.memory
        undecided = (xt == process.mask_id) & ~canvas.given
        left, size = undecided.sum(1), min(self.group, xt.shape[1])
        noise = 1 - grid.survival(process, 1.0, xt) if draft is None else draft.noise
        levels = events.levels(noise, left, rng.uniform(key, SITE_JUMP, size))
        log_x0 = denoise(xt, grid.time_of(process, 1 - levels[:, 0]))
        chosen = undecided & (events.ranks(undecided, key, SITE_EXTRA) < size)
        at = gathered(chosen, _everything(xt), size)
        belief = log_x0.gather(1, at.focus.positions[..., None].expand(-1, -1, log_x0.shape[-1]))
        xs = at.put(xt, _drawn(belief, key, at.focus.positions))
        last = torch.minimum(left, torch.full_like(left, size)).clamp(min=1) - 1
        noise = levels.gather(1, last[:, None])[:, 0]
        memory = Draft(noise, at.focus.positions, at.live, belief)
        return canvas._replace(tokens=xs, memory=memory), StepInfo(xs != xt, left <= 1)


def _corrected(
    process: Absorbing, denoise: Shadowing, canvas: Canvas, key: Key
) -> tuple[Canvas, StepInfo]:
    xt, draft = canvas.tokens, canvas.memory
    at = Gathered(Focus(draft.positions, _everything(xt)), draft.live)
    _, unseen = denoise.shadow(xt, grid.time_of(process, 1 - draft.noise), at.focus)
    mean = torch.logaddexp(draft.belief, unseen)  # twice the mean: weights need no norm
    xs = at.put(xt, _drawn(mean, key, draft.positions))
    done = (process.settled(xs) | canvas.given).all(1)
    return canvas._replace(tokens=xs), StepInfo(xs != xt, done)


def _drawn(belief: Belief, key: Key, positions: Int[Tensor, "B F"]) -> Int[Tensor, "B F"]:
    return categorical.sample(belief, rng.uniform_at(key, SITE_TARGET, positions))


def _everything(xt: Int[Tensor, "B L"]) -> Int[Tensor, "B 2"]:
    """Return the whole canvas as every row's active block."""
    ends = torch.arange(2, device=xt.device) * xt.shape[1]
    return ends.expand(len(xt), -1)
