"""Guided diffusion: a causal model says how far the drafts of a diffusion model can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unison.decode import blocks, grid
from unison.decode.api import SITE_JUMP, Canvas, StepInfo
from unison.decode.jointly import likeliest, weighed
from unison.decode.stop.ends import is_end
from unison.prob import rng
from unison.prob.rng import Key
from unison.process import Absorbing
from unison.types import Belief, Denoiser, Law, Mask

Drafts = Int[Tensor, "B F"]
Accepted = Bool[Tensor, "B F"]


@dataclass(frozen=True)
class Guided:
    """Draft every hole, and write the longest prefix that a causal model accepts.

    Guided diffusion of FlashDLM (Hu et al., 2025, arXiv:2505.21467). A step takes the likeliest
    token of every open position, shows the text with all of them to the judge in one pass, and
    writes from the left as many as it accepts in a row, the first in any case. The judge never
    writes: it sets the pace alone. A step costs one evaluation of the model and one of the judge.
    Rules, on the judge's law p at a drafted token d:

        deterministic      d = argmax p
        topk               d among the 5 likeliest
        topk_relative      d among the 2 likeliest and p(d) >= max p / 2
        dynamic_threshold  p(d) > 0.1
        aggressive         d among the 5 likeliest, or p(d) > 0.05, or d in the nucleus of 0.95
        original           with probability p(d)

    Law: none; the text is greedy and written from left to right.

    Differs: the drafts are judged in one pass, not in chunks of 32; both models must share a
    tokenizer, no drafts are translated.

    Attributes:
        rule: When a draft is accepted.
        eos_ids: Tokens that end the text; once one is written, what is left becomes it.
        judge: The causal model as a denoiser: at each position its law given what stands before.
            Set by whoever knows the models.
    """

    law: ClassVar[Law] = Law.BIASED
    processes: ClassVar[tuple[str, ...]] = ("absorbing",)
    rule: Literal[
        "deterministic", "topk", "topk_relative", "dynamic_threshold", "aggressive", "original"
    ] = "deterministic"
    eos_ids: tuple[int, ...] = ()
    judge: Denoiser | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.rule not in _RULES:
            raise ValueError(f"rule must be one of {', '.join(_RULES)}, got {self.rule!r}.")

    def budget(self, length: int) -> int:
        """Return one step per position."""
        return length

    def step(
        self, process: Absorbing, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Draft, have it judged, write the accepted prefix.

        Raises:
            ValueError: There is no judge, or it speaks of another number of tokens.
        """
        if self.judge is None:
            raise ValueError(
                "guided decoding needs a judge, a causal model with the same tokenizer, and has "
                "none; name one, or choose another strategy."
            )
        xt = canvas.tokens
        open_ = (xt == process.mask_id) & ~canvas.given
        at = blocks.gathered(open_, _stretch(open_), xt.shape[1])
        share = open_.sum(1) / (~canvas.given).sum(1).clamp(min=1)
        asked = weighed(likeliest(denoise))
        belief = asked(xt, grid.time_at(process, 1 - share.double()), at.focus, None)
        sure, draft = belief.max(-1)
        tokens = at.put(xt, draft)
        accepted = self._judged(self.judge, process, tokens, (at, draft), key)
        prefix = accepted.long().cumprod(1).bool()
        first = torch.arange(draft.shape[1], device=xt.device) == 0
        wrote = at.put(torch.zeros_like(open_), prefix | first)
        after = self._ended(torch.where(wrote, tokens, xt), wrote, open_)
        done = ~((after == process.mask_id) & ~canvas.given).any(1)
        quiet = torch.zeros(xt.shape, dtype=torch.float64, device=xt.device)
        info = StepInfo(
            after != xt,
            done,
            at.put(torch.full_like(xt, -1), draft),
            at.put(quiet, sure.double().exp()),
        )
        return canvas._replace(tokens=after), info

    def _judged(
        self,
        judge: Denoiser,
        process: Absorbing,
        tokens: Int[Tensor, "B L"],
        drafted: tuple[blocks.Gathered, Drafts],
        key: Key,
    ) -> Accepted:
        """Return which drafts the judge accepts, each by itself."""
        at, draft = drafted
        # Only padding can still hold a mask; no position that is read looks at it.
        clean = torch.where(tokens == process.mask_id, 0, tokens)
        now = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        said = judge(clean, now, at.focus, None)
        if said.shape[-1] != process.vocab_size:
            raise ValueError(
                f"the judge speaks of {said.shape[-1]} tokens and the model of "
                f"{process.vocab_size}; they must share a tokenizer."
            )
        u = at.take(rng.uniform(key, SITE_JUMP, tokens.shape[1]))
        return _RULES[self.rule](said, said.gather(-1, draft[..., None])[..., 0], u)

    def _ended(self, tokens: Int[Tensor, "B L"], wrote: Mask, open_: Mask) -> Tensor:
        """Return the tokens with every hole filled in rows where the end was written."""
        if not self.eos_ids:
            return tokens
        ends = wrote & is_end(tokens, self.eos_ids)
        # The first end counts: drafts accepted beyond it are overwritten as well.
        place = ends.long().argmax(1, keepdim=True)
        end = tokens.gather(1, place)
        beyond = torch.arange(tokens.shape[1], device=tokens.device) > place
        return torch.where(ends.any(1, keepdim=True) & open_ & beyond, end, tokens)


def _stretch(open_: Mask) -> Int[Tensor, "B 2"]:
    """Return the first open position of each row and one past its last."""
    length = open_.shape[1]
    last = length - open_.flip(1).long().argmax(1)
    return torch.stack([open_.long().argmax(1), last], dim=1)


Score = Float[Tensor, "B F"]
_RULES: dict[str, Callable[[Belief, Score, Score], Accepted]] = {
    "deterministic": lambda said, draft, u: draft >= said.amax(-1),
    "topk": lambda said, draft, u: _ahead(said, draft) < 5,
    "topk_relative": lambda said, draft, u: (
        (_ahead(said, draft) < 2) & ((draft - said.amax(-1)).double().exp() >= 0.5)
    ),
    "dynamic_threshold": lambda said, draft, u: draft.double().exp() > 0.1,
    "aggressive": lambda said, draft, u: (
        (_ahead(said, draft) < 5) | (draft.double().exp() > 0.05) | (_mass(said, draft) < 0.95)
    ),
    "original": lambda said, draft, u: u < draft.double().exp(),
}


def _ahead(said: Belief, draft: Score) -> Int[Tensor, "B F"]:
    """Return how many tokens the judge finds likelier."""
    return (said > draft[..., None]).sum(-1)


def _mass(said: Belief, draft: Score) -> Score:
    """Return the probability of the tokens the judge finds likelier."""
    return said.exp().where(said > draft[..., None], 0.0).sum(-1, dtype=torch.float64)
