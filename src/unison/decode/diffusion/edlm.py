"""Residual sampling: several drafts of the whole text, of which an energy picks one every step."""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from unison.decode import grid
from unison.decode.api import SITE_EXTRA, SITE_JUMP, SITE_TARGET, Canvas, StepInfo
from unison.decode.jointly import Told
from unison.prob import categorical, rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Denoiser, Energy, Law, LogProbs, Mask, Tokens

_SITE_DRAFTS = SITE_EXTRA + 1  # one site per draft but the first follows


@dataclass(frozen=True)
class Edlm:
    """Resample drafts by exp(-E), then reveal tokens of the one picked (arXiv:2410.21357).

    EDLM (Xu et al., 2024). On the time grid of ancestral sampling, a step from t to s draws k
    texts from the belief, undecided positions independently, picks one with probability
    softmax(-E / temperature), and writes each undecided position of it with probability
    (alpha_s - alpha_t) / (1 - alpha_t). A step costs one evaluation of the model and, inside the
    window, k of the judge; one draft needs no judge and is ancestral sampling.

    Law: the N-step chain of self-normalised importance resampling with k drafts. As k grows it
    tends to the chain that reveals tokens of p(x_0 | x_t) ~ p_diff(x_0 | x_t) exp(-E), jointly.

    Differs: weights fall with the energy (published code has them rise), drafts are drawn afresh
    every step (published code goes on with the one it picked while the canvas is unchanged), and
    the energy is told log-probabilities.

    Attributes:
        steps: N, the number of model evaluations.
        candidates: k, drafts of a step inside the window.
        window: Share of the run, from t = 1 on, in which drafts are resampled; ancestral after.
        sharpness: Of the weights, softmax(-sharpness E): the inverse of the published temperature.
        carry_over: Have a causal judge score undecided positions alone; read by whoever sets it.
        judge: The energy. Set by whoever knows the models.
    """

    law: ClassVar[Law] = Law.EXACT
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    steps: int = 64
    candidates: int = 2
    window: float = 1.0
    sharpness: float = 1.0
    carry_over: bool = False
    judge: Energy | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("steps", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.window <= 1:
            raise ValueError(f"window must be in [0, 1], got {self.window}.")
        if not 0 <= self.sharpness < float("inf"):
            raise ValueError(
                f"sharpness must be at least 0 and finite, got {self.sharpness}; 0 asks nobody."
            )

    def budget(self, length: int) -> int:
        """Return N."""
        return self.steps

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draft, pick, reveal.

        Raises:
            ValueError: There is no judge and a choice to make.
        """
        xt = canvas.tokens
        t, s = 1 - key.step / self.steps, 1 - (key.step + 1) / self.steps
        open_ = process.settled(xt).logical_not() & ~canvas.given
        if isinstance(denoise, Told):
            log_x0, draft = denoise.drafts(xt, grid.per_row(t, xt))
        else:
            log_x0 = denoise(xt, grid.per_row(t, xt))
            draft = partial(_draft, log_x0, open_, key)
        if self.candidates > 1 and key.step / self.steps < self.window:
            drafts = torch.stack([draft(number) for number in range(self.candidates)], dim=1)
            x0 = self._picked(canvas, log_x0, (open_, drafts), grid.per_row(t, xt), key)
        else:
            x0 = draft(0)
        alpha_s, alpha_t = grid.survival(process, s, xt), grid.survival(process, t, xt)
        share = ((alpha_s - alpha_t) / (1 - alpha_t))[:, None]
        jump = open_ & (rng.uniform(key, SITE_JUMP, xt.shape[1]) < share)
        xs = torch.where(jump, x0, xt)
        settled = (process.settled(xs) | canvas.given).all(1)
        return canvas._replace(tokens=xs), StepInfo(
            xs != xt, settled | (key.step + 1 >= self.steps)
        )

    def _picked(
        self,
        canvas: Canvas,
        log_x0: LogProbs,
        drafted: tuple[Mask, Int[Tensor, "B K L"]],
        t: Tensor,
        key: Key,
    ) -> Tokens:
        """Return one of k drafts for each row."""
        if self.judge is None:
            raise ValueError(
                "edlm needs a judge, a causal model or a trained energy with the same tokenizer, "
                "and has none; name one, set candidates=1, or choose another strategy."
            )
        open_, drafts = drafted
        # What is neither open nor a token is padding.
        kept = torch.where(canvas.tokens < log_x0.shape[-1], canvas.tokens, 0)
        texts = torch.where(open_[:, None], drafts, kept[:, None])
        said = log_x0.gather(-1, texts.transpose(1, 2)).double()
        log_diff = said.where(open_[..., None], 0.0).sum(1)
        energy = self.judge(texts, canvas.tokens, t, log_diff, canvas.valid)
        u = rng.uniform(key, SITE_EXTRA, 1)[:, 0]
        choice = categorical.sample(-self.sharpness * energy, u)
        return texts.gather(1, choice[:, None, None].expand(-1, 1, texts.shape[-1]))[:, 0]


def _draft(log_x0: LogProbs, open_: Mask, key: Key, number: int) -> Tokens:
    """Return a token for every open position, drawn independently; 0 elsewhere."""
    site = _SITE_DRAFTS + number - 1 if number else SITE_TARGET
    return categorical.sample_where(log_x0, rng.uniform(key, site, open_.shape[1]), open_)
