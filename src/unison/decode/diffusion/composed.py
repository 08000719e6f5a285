"""A strategy made of parts: order, select, revise, stop and temper, each chosen by itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from unison.decode import blocks, grid
from unison.decode.api import Canvas, StepInfo
from unison.decode.blocks import Anchor
from unison.decode.composition import refusal, unready
from unison.decode.fitting import Facts, blocks_of
from unison.decode.jointly import Heard, Joint
from unison.decode.order import Confidence
from unison.decode.proposal import proposed
from unison.decode.revise import Keep
from unison.decode.select import Count
from unison.decode.sight import (
    After,
    Chosen,
    Order,
    Revise,
    Score,
    Select,
    Sight,
    Stop,
    Verdict,
    certainty,
)
from unison.decode.situation import Look, Memory, Situation, joined, looked_back, situated
from unison.decode.stop import Committed
from unison.decode.stop.ends import is_end
from unison.decode.temper import Temper
from unison.prob.rng import Key
from unison.process import Absorbing, Uniform
from unison.types import Belief, Denoiser, Law, Mask, Shadowing, Time, Tokens

_WORDS = {
    "anchor": ("answer", "canvas"),
    "judged": ("belief", "tempered"),
    "discounted_by": ("steps", "tokens"),
}


@dataclass(frozen=True)
class Composed:
    """Write the canvas block by block; in each step the parts decide what is written.

    The skeleton shared by MaskGIT (arXiv:2202.04200), LLaDA (arXiv:2502.09992), Fast-dLLM
    (arXiv:2505.22618) and the methods named in ``unison.decode.presets``.

    Law: none in general. With one token per step, temperature 1 and an order that does not look
    at the drawn token, the joint law of the canvas is the product of the beliefs along the order,
    so exact beliefs give exact samples.

    Attributes:
        order: Which position goes first.
        select: How many are written at once.
        revise: What happens to written text.
        stop: When the rest is written at once.
        temper: How sharply tokens are drawn.
        steps: Steps over the whole canvas, or for each block; ``None`` for as many as the parts
            take, at most one per position (and what the revision needs on top).
        per_block: Whether ``steps`` counts each block's.
        block_length: Positions of a block; ``None`` for the whole canvas at once.
        anchor: Where blocks are counted from: the answer's first position, or the canvas's.
        judged: Whether parts judge by the model's belief or by the tempered one.
        discount: Factor on the score of a position whose candidate ends the text, at the first
            step of a block; rises to 1 at the last (EOSER, arXiv:2509.23924).
        discounted_by: What it rises with: the steps spent, or the share of the block's tokens
            written with the step's.
        eos_ids: Tokens that end the text; needed by ``discount`` and by some stops.
    """

    law: ClassVar[Law] = Law.BIASED
    processes: ClassVar[tuple[str, ...]] = ("absorbing", "uniform")
    order: Order = field(default_factory=Confidence)
    select: Select = field(default_factory=Count)
    revise: Revise = field(default_factory=Keep)
    stop: Stop = field(default_factory=Committed)
    temper: Temper = field(default_factory=Temper)
    steps: int | None = None
    per_block: bool = False
    block_length: int | None = None
    anchor: Anchor = "answer"
    judged: Literal["belief", "tempered"] = "belief"
    discount: float = 1.0
    discounted_by: Literal["steps", "tokens"] = "steps"
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "block_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name, allowed in _WORDS.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be {' or '.join(allowed)}, got {getattr(self, name)!r}."
                )
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be in [0, 1], got {self.discount}.")
        reason = refusal(self)
        if reason is not None:
            raise ValueError(reason)

    @property
    def apart(self) -> bool:
        """Whether rows may stand at different steps: they may."""
        return True

    def joined(self, process: Absorbing | Uniform, canvases: Sequence[Canvas]) -> Memory | None:
        """Return the memory of several batches as one."""
        return joined(self, process, canvases)

    def budget(self, length: int) -> int:
        """Return the largest number of steps."""
        count = 1 if self.block_length is None else -(-length // self.block_length) + 1
        if self.steps is None:
            return length + length * self.revise.extra(length)  # a block has a position or more
        return self.steps * count if self.per_block else max(self.steps, count)

    def fitted(self, facts: Facts) -> "Composed":
        """Return the strategy with the model's blocks and end tokens where they are unset.

        Raises:
            ValueError: It needs an end token the model lacks, other blocks than the model has, or
                cannot undo the model's process.
        """
        length, anchor = blocks_of(facts, self.block_length, self.anchor)
        ends = self.eos_ids or facts.eos_ids
        filled = replace(self, eos_ids=ends, block_length=length, anchor=anchor)
        reason = unready(filled, facts.process)
        if reason is not None:
            raise ValueError(reason)
        return filled

    def tempered(
        self, temperature: float | None, top_k: int | None, top_p: float | None
    ) -> "Composed":
        """Return the strategy with another temper; a given temperature stays as it is."""
        temper = self.temper
        if temperature is not None:
            temper = replace(temper, temperature=temperature, final=None)
        temper = replace(
            temper,
            top_k=temper.top_k if top_k is None else top_k,
            top_p=temper.top_p if top_p is None else top_p,
        )
        return replace(self, temper=temper)

    def paced(self) -> bool:
        """Return whether the number of steps decides how much each of them writes."""
        return self.select.paced

    def carries(self, process: str) -> bool:
        """Return whether each step hands its belief to the next: where nothing is decided."""
        return process == "uniform" and not self.revise.shadows

    def refuse(self, canvas: Canvas) -> None:
        """Raise ValueError where a row has more blocks to write than steps."""
        if self.steps is None or self.per_block or self.block_length is None:
            return
        block = blocks.numbered(canvas, self.block_length, self.anchor)
        most = int(blocks.division(block, canvas.given, block[:, 0]).count.max())
        if self.steps < most:
            raise ValueError(
                f"steps={self.steps} is fewer than the {most} blocks of {self.block_length} tokens "
                f"to write; give at least {most} steps, a larger block_length, or per_block."
            )

    def step(
        self, process: Absorbing | Uniform, denoise: Denoiser, canvas: Canvas, key: Key
    ) -> tuple[Canvas, StepInfo]:
        """Look at the active block of every row, write, and move on where it is finished."""
        now = situated(self, process, canvas)
        look = self._look(process, denoise, canvas, now, key)
        past = looked_back(now, look)
        chosen = self._choose(process, look.sight)
        revision = self.revise.write(process, look.sight, chosen, past, look.shadow)
        tokens = look.at.put(canvas.tokens, revision.tokens)
        ended = self._after(process, tokens, canvas, now, look)
        verdict = self.stop.judge(look.sight, chosen, past, ended)
        tokens = _filled(process, ended, canvas, look, verdict)
        past = past._replace(
            confidence=torch.where(
                tokens != canvas.tokens,
                look.at.put(past.confidence, look.sight.confidence),
                past.confidence,
            ),
            wrote=chosen.sum(1),
        )
        lingering = revision.lingering & ~verdict.block & ~verdict.canvas & (now.left > 1)
        memory, done = _onward(process, tokens, canvas, now, (lingering, verdict))
        after = canvas._replace(
            tokens=tokens,
            memory=memory._replace(past=past, earlier=look.tempered if now.carries else None),
            level=now.levels,
        )
        return after, self._said(canvas, tokens, look, done)

    def _look(
        self,
        process: Absorbing | Uniform,
        denoise: Denoiser,
        canvas: Canvas,
        now: Situation,
        key: Key,
    ) -> Look:
        """Ask the model about the positions the parts read, and propose a token for each."""
        bound = canvas.tokens.shape[1]
        if now.reach != "canvas" and self.block_length is not None and canvas.block is None:
            bound = min(bound, self.block_length)
        at = blocks.gathered(now.wanted, now.division.bounds, bound)
        time = now.level if now.uniform else grid.time_at(process, 1 - now.level)
        said, shadow = self._heard(process, denoise, canvas, (at, now, time))
        by_tempered = self.judged == "tempered"
        voice = proposed(self.temper, said, at, now, key, judged=by_tempered)
        judged = cast(Belief, voice.tempered) if by_tempered else voice.said
        sight = Sight(
            at.focus.positions,
            at.live,
            at.take(now.open) & at.live,
            at.take(now.inside) & at.live,
            at.take(canvas.tokens),
            judged,
            voice.candidate,
            certainty(judged, voice.candidate),
            judged.argmax(-1) if voice.likeliest is None else voice.likeliest,
            now.due,
            now.left,
            key.place / now.steps.clamp(min=1).double(),
            now.memory.block_step,
            now.division.size,
            key,
        )
        return Look(at, sight, voice.tempered, shadow)

    def _heard(
        self,
        process: Absorbing | Uniform,
        denoise: Denoiser,
        canvas: Canvas,
        where: tuple[blocks.Gathered, Situation, Time],
    ) -> tuple[Belief | Heard, Belief | None]:
        """Return what the model says, and what it says of tokens it does not see."""
        at, now, time = where
        if self.revise.shadows:
            if not isinstance(denoise, Shadowing):
                raise ValueError(
                    f"{type(self.revise).__name__} judges tokens without seeing them, which this "
                    "model cannot; choose another revision."
                )
            return denoise.shadow(canvas.tokens, time, at.focus)
        earlier = now.earlier(canvas, at, process.vocab_size) if now.carries else None
        ask = denoise.hear if isinstance(denoise, Joint) else denoise
        return ask(canvas.tokens, time, at.focus, earlier), None

    def _choose(self, process: Absorbing | Uniform, sight: Sight) -> Chosen:
        """Return what is written: what the parts choose, and in a block's last step all."""
        score = self.order.score(sight)
        if self.discount < 1:
            score = score * self._discount(sight, score)
        chosen = self.select.choose(sight, score) & sight.open
        return chosen | (sight.open & (sight.left <= 1)[:, None])

    def _discount(self, sight: Sight, score: Score) -> Float[Tensor, "B F"]:
        ends = is_end(sight.candidate, self.eos_ids)
        if self.discounted_by == "steps":
            share = sight.block_step / (sight.left + sight.block_step - 1).clamp(min=1)
        else:
            writes = (self.select.choose(sight, score) & sight.open).sum(1)
            share = 1 - (sight.open.sum(1) - writes) / sight.size.clamp(min=1)
        factor = self.discount + (1 - self.discount) * share.double()
        return torch.where(ends, factor[:, None], 1.0)

    def _after(
        self,
        process: Absorbing | Uniform,
        tokens: Tokens,
        canvas: Canvas,
        now: Situation,
        look: Look,
    ) -> After:
        """Return the canvas after the step, nothing in a block's last one left undecided.

        What the revision took back then is written after all, and a uniform-state block ends as
        the likeliest text.
        """
        last = now.left[:, None] <= 1
        settle, fill = now.inside, look.sight.likeliest
        if isinstance(process, Absorbing):
            settle = settle & (tokens == process.mask_id)
            fill = torch.where(last, look.sight.candidate, fill)
        settle = settle & look.at.put(torch.zeros_like(canvas.given), look.at.live)
        finished = torch.where(settle, look.at.put(tokens, fill), tokens)
        tokens = torch.where(last, finished, tokens)
        undecided = _unwritten(process, tokens, canvas, now)
        return After(tokens, undecided, finished, _tail(canvas), self.eos_ids)

    def _said(self, canvas: Canvas, tokens: Tokens, look: Look, done: Tensor) -> StepInfo:
        """Return what the step did, as observers see it."""
        nothing = torch.full_like(canvas.tokens, -1)
        unknown = torch.zeros(canvas.tokens.shape, dtype=torch.float64, device=tokens.device)
        return StepInfo(
            tokens != canvas.tokens,
            done,
            look.at.put(nothing, look.sight.candidate),
            look.at.put(unknown, look.sight.confidence),
        )


def _unwritten(
    process: Absorbing | Uniform, tokens: Tokens, canvas: Canvas, now: Situation
) -> Mask:
    """Return where a token is still to be written, the active block's last step past or not."""
    if isinstance(process, Absorbing):
        return (tokens == process.mask_id) & ~canvas.given
    active = now.memory.active[:, None]
    going = now.left > 1
    return ~canvas.given & ((now.block > active) | (now.block == active) & going[:, None])


def _tail(canvas: Canvas) -> Mask:
    """Return where an end token ends the text: nothing given follows, padding aside."""
    held = canvas.given if canvas.valid is None else canvas.given & canvas.valid
    return ~canvas.given & (held.flip(1).cumsum(1).flip(1) == 0)


def _filled(
    process: Absorbing | Uniform, after: After, canvas: Canvas, look: Look, verdict: Verdict
) -> Tokens:
    """Return the canvas with everything written at once that may be."""
    tokens = torch.where(verdict.block[:, None], after.finished, after.tokens)
    settle = verdict.canvas[:, None] & ~canvas.given
    if verdict.region is not None:
        settle = settle & verdict.region
    if isinstance(process, Absorbing):
        settle = settle & (tokens == process.mask_id)
    seen_there = look.at.put(torch.zeros_like(canvas.given), look.at.live)
    tokens = torch.where(settle & seen_there, look.at.put(tokens, look.sight.likeliest), tokens)
    if verdict.end < 0:
        return tokens
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where((place >= verdict.cut[:, None]) & ~canvas.given, verdict.end, tokens)


def _onward(
    process: Absorbing | Uniform,
    tokens: Tokens,
    canvas: Canvas,
    now: Situation,
    ruling: tuple[Tensor, Verdict],
) -> tuple[Memory, Tensor]:
    """Return the memory with the next active block, and which rows are done."""
    lingering, verdict = ruling
    active = now.memory.active
    if isinstance(process, Absorbing):
        following = blocks.lowest(now.block, (tokens == process.mask_id) & ~canvas.given)
        following = torch.where(lingering, active, following)
    else:
        place = torch.arange(tokens.shape[1], device=tokens.device)
        ahead = ~canvas.given & (now.block > active[:, None]) & (place < verdict.cut[:, None])
        finished = verdict.block | (now.left <= 1) | (verdict.cut <= now.division.bounds[:, 0])
        following = torch.where(finished, blocks.lowest(now.block, ahead), active)
        following = torch.where(verdict.canvas, torch.iinfo(active.dtype).max, following)
    same = following == active
    memory = now.memory._replace(
        active=following, block_step=torch.where(same, now.memory.block_step + 1, 0), was=active
    )
    return memory, following == torch.iinfo(active.dtype).max
